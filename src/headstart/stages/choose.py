"""Choose: race pretrained models on a part of the data, and take the cheapest that is as good as the best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart import methods, modalities
from headstart.core.arrays import row_count
from headstart.core.dataset import Dataset, as_text
from headstart.core.errors import DataError, HeadstartError, UsageError, listed
from headstart.core.method import Budget, Job
from headstart.core.metrics import mean_interval
from headstart.core.progress import Progress, Quiet
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions
from headstart.core.split import folds, strata_of
from headstart.core.threads import core_count
from headstart.runtime import embedded
from headstart.stages import networks
from headstart.stages.check import Checked, check
from headstart.stages.files import with_files
from headstart.stages.infer import infer
from headstart.stages.prepare import Prepared, prepare
from headstart.stages.read import describe, read_table

ROWS = 2_000
"""Rows that a race uses at most."""
MOST = 5
"""Models that run unless they are named."""
NEIGHBOURS = 5
TIMED = 32
"""Rows whose answers are timed."""
FREE = ("apache", "mit", "bsd", "cc-by-4", "cc0", "unlicense", "isc", "bsl")
"""How the names of licences begin that allow commercial use without conditions on what is built with them."""


@dataclass(frozen=True)
class Entrant:
    """One model of a race.

    Args:
        reference: the model, or `scratch` for what can be learnt without one.
        score: mean of the tasks' primary metric on held-out rows, 0 to 1.
        interval: its 95 % interval.
        neighbours: accuracy of the nearest neighbours of the frozen vectors, unfitted; None where it has no meaning.
        milliseconds: for one row of a batch on this machine, from the cell to the vector.
        size: bytes of its weights.
        licence: SPDX name where it is known.
        chosen: whether the race takes it.
        note: why it was left out, where it was.
    """

    reference: str
    score: float = 0.0
    interval: Sequence[float] = ()
    neighbours: float | None = None
    milliseconds: float = 0.0
    size: int = 0
    licence: str = ""
    chosen: bool = False
    note: str = ""


def choose(
    source: Any,
    *,
    target: str | Sequence[str] = (),
    input: str | Sequence[str] = (),
    group: str = "",
    candidates: str | Sequence[str] = (),
    max_latency: float = 0.0,
    max_size: int = 0,
    licence: str = "",
    seed: int = 0,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Race pretrained models on at most 2,000 rows of a table and say which one to fit.

    Each model stays frozen; the same tuned probe is fitted on its vectors and judged on held-out rows, next to what can
    be learnt from scratch. The cheapest within one standard error of the best is chosen (Breiman et al., 1984).

    Args:
        source: a file, folder, SQL reference, or frame.
        target: columns to predict; inferred where empty.
        input: columns to predict from; inferred where empty.
        group: a column whose rows never stand on both sides of a split.
        candidates: references to race; what is on this machine where empty.
        max_latency: milliseconds that one row may take; 0 means no limit.
        max_size: bytes that the weights may have; 0 means no limit.
        licence: `permissive`, or part of a licence's name; any where empty.

    Returns:
        `chosen`, `sentence`, `rows` and `race`, a list of entrants, the best first.

    Raises:
        HeadstartError: with what is wrong, what is allowed and what to do.
    """
    progress = progress or Quiet()
    recipe = Recipe(target=_names(target), input=_names(input), group=group, seed=seed)
    table, notes = read_table(source, options)
    dataset = infer(
        table, targets=recipe.target, inputs=recipe.input, group=group, origin=describe(source), notes=notes
    )
    checked = check(with_files(dataset, source), group)
    named = _names(candidates)
    limits = Limits(max_latency, max_size, licence)
    return race(checked, recipe, named, limits, progress)


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value)
    return tuple(name.strip() for name in names if name.strip())


@dataclass(frozen=True)
class Limits:
    """What a model must keep to: milliseconds a row, bytes of weights, and its licence; 0 and empty mean any."""

    milliseconds: float = 0.0
    size: int = 0
    licence: str = ""

    def why_not(self, entrant: Entrant) -> str:
        """Return an empty string, or why an entrant may not be chosen."""
        if self.milliseconds and entrant.milliseconds > self.milliseconds:
            return f"slower than {self.milliseconds:g} ms a row"
        if self.size and entrant.size > self.size:
            return f"larger than {self.size / 1e6:.0f} MB"
        have = entrant.licence.casefold()
        if self.licence == "permissive" and entrant.size and not have.startswith(FREE):
            return f"its licence is {entrant.licence or 'not known'}"
        if self.licence not in ("", "permissive") and entrant.size and self.licence.casefold() not in have:
            return f"its licence is {entrant.licence or 'not known'}"
        return ""


def race(
    checked: Checked, recipe: Recipe, candidates: Sequence[str], limits: Limits, progress: Progress
) -> dict[str, Any]:
    """Race models on a checked data set; see `choose`.

    Raises:
        DataError: no input of the table is of a kind that pretrained models read.
        UsageError: none of the candidates can be opened.
    """
    dataset, groups = _part(checked, recipe.seed)
    readable = [name for name in dataset.inputs if name != "row"]
    if not readable:
        raise DataError(
            "No pretrained model reads numbers and categories.",
            allowed="Models are raced on texts, pictures or recordings.",
            hint="headstart fit uses gradient boosting for such tables.",
        )
    references = list(candidates) or networks.candidates(readable[0])[:MOST]
    entrants = [_scratch(dataset, groups, recipe, progress)]
    for reference in references:
        progress.say(f"trying {reference}")
        try:
            entrants.append(_one(dataset, groups, replace(recipe, backbone=reference), limits, progress))
        except HeadstartError as error:
            entrants.append(Entrant(reference, note=error.problem))
    ran = [each for each in entrants if each.interval]
    if len(ran) == 1 and candidates:
        raise UsageError(
            f"None of {listed(references)} can be tried: {'; '.join(each.note for each in entrants if each.note)}"
        )
    return _told(_decided(entrants), len(dataset))


def _part(checked: Checked, seed: int) -> tuple[Dataset, np.ndarray]:
    """Return at most `ROWS` rows, spread over the labels by whole groups."""
    dataset, groups = checked.dataset, checked.groups
    if len(dataset) <= ROWS:
        return dataset, groups
    cells = [as_text(cell) for cell in dataset.column(dataset.targets[0])]
    part = folds(strata_of(cells), groups, -(-len(dataset) // ROWS), seed)
    rows = np.flatnonzero(part == 0)
    return dataset.rows(rows), groups[rows]


def _scratch(dataset: Dataset, groups: np.ndarray, recipe: Recipe, progress: Progress) -> Entrant:
    prepared = prepare(dataset, np.zeros(len(dataset), bool), groups, replace(recipe, method="scratch"), progress)
    values, _ = _held_out(prepared, "scratch", progress)
    return Entrant("scratch", float(values.mean()), mean_interval(values))


def _one(dataset: Dataset, groups: np.ndarray, recipe: Recipe, limits: Limits, progress: Progress) -> Entrant:
    prepared = prepare(dataset, np.zeros(len(dataset), bool), groups, recipe, progress)
    values, neighbours = _held_out(prepared, "probe", progress)
    spec = networks.summary(prepared.opened) or {}
    entrant = Entrant(
        recipe.backbone,
        float(values.mean()),
        mean_interval(values),
        neighbours,
        _milliseconds(prepared),
        int(spec.get("size", 0)),
        str(spec.get("licence", "")),
    )
    return replace(entrant, note=limits.why_not(entrant))


def _held_out(prepared: Prepared, method: str, progress: Progress) -> tuple[np.ndarray, float | None]:
    """Return how good each held-out answer is, all targets together, and the nearest neighbours' accuracy."""
    values, near = [], []
    for name, task in prepared.tasks.items():
        rows = prepared.rows(name, test=False)
        features = {key: each[rows] for key, each in prepared.features.items()}
        y = prepared.encoded(name, rows)
        job = Job(task, y, features, prepared.groups[rows], 0, Budget(), core_count(), progress)
        values.append(task.correct(methods.head_methods()[method]().fit(job).held_out, y))
        if "embedding" in features and y.ndim == 1 and y.dtype.kind == "i":
            near.append(_neighbours(features["embedding"], y, prepared.groups[rows]))
    return np.concatenate(values), float(np.mean(near)) if near else None


def _neighbours(vectors: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Return the accuracy of the vote of the nearest rows of other groups."""
    similarity = vectors @ vectors.T
    similarity[groups[:, None] == groups[None, :]] = -np.inf
    near = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.zeros((len(y), int(y.max()) + 1))
    for each in range(NEIGHBOURS):
        votes[np.arange(len(y)), y[near[:, each]]] += 1
    return float((votes.argmax(axis=1) == y).mean())


def _milliseconds(prepared: Prepared) -> float:
    table = {name: cells[:TIMED] for name, cells in prepared.dataset.table.items()}
    spent = 0.0
    for modality in prepared.inputs:
        session = prepared.sessions.get(modalities.name_of(modality))
        if session is not None:
            arrays = modality.prepare(table)
            embedded(modality, session, arrays)
            started = time.perf_counter()
            embedded(modality, session, arrays)
            spent += (time.perf_counter() - started) / max(1, row_count(arrays))
    return 1000 * spent


def _decided(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the entrants, the best first, with the cheapest within one standard error of the best marked."""
    able = [each for each in entrants if each.interval and not each.note]
    best = max(able, key=lambda each: each.score)
    # A 95 % interval reaches 1.96 standard errors to each side.
    margin = (best.interval[1] - best.interval[0]) / 2 / 1.96
    winner = min((each for each in able if each.score >= best.score - margin), key=lambda each: each.milliseconds)
    return sorted(
        (replace(each, chosen=each is winner) for each in entrants), key=lambda each: (not each.interval, -each.score)
    )


def _told(entrants: Sequence[Entrant], rows: int) -> dict[str, Any]:
    winner = next(each for each in entrants if each.chosen)
    best = next(each for each in entrants if each.interval and not each.note)
    scratch = next(each for each in entrants if each.reference == "scratch")
    tried = [each for each in entrants if each.interval and each is not scratch]
    if tried and all(each.note for each in tried):
        least = min(tried, key=lambda each: each.milliseconds)
        sentence = (
            f"No pretrained model keeps to the limits ({least.reference}: {least.note}): "
            "allow more, or use --method scratch."
        )
    elif winner is scratch:
        sentence = "No pretrained model is clearly better than training from scratch: use --method scratch."
    elif winner is best:
        sentence = f"{winner.reference} is the best, {100 * (winner.score - scratch.score):+.1f} points over scratch."
    else:
        sentence = (
            f"{winner.reference} is within one standard error of {best.reference} and cheaper, "
            f"{100 * (winner.score - scratch.score):+.1f} points over scratch."
        )
    race = [{**asdict(each), "interval": list(each.interval)} for each in entrants]
    return {"chosen": winner.reference, "sentence": sentence, "rows": rows, "race": race}


def settled(recipe: Recipe, checked: Checked, test: np.ndarray, progress: Progress) -> Recipe:
    """Return the recipe with `auto` settled by a race on training rows, where several models could read a file.

    Texts have a default model, which needs no race.
    """
    if recipe.backbone != "auto" or recipe.method == "scratch":
        return recipe
    chosen = []
    for modality in checked.dataset.inputs:
        references = networks.candidates(modality)[:MOST] if modalities.registry.get(modality).files else []
        if len(references) < 2:
            continue
        rows = np.flatnonzero(~test)
        train = replace(checked, dataset=checked.dataset.rows(rows), groups=checked.groups[rows])
        found = race(train, recipe, references, Limits(), progress)
        best = next((each for each in found["race"] if each["chosen"] and each["reference"] != "scratch"), None)
        # Where scratch wins the race, the smallest model is still fitted beside it, so that the report shows both.
        chosen.append(best["reference"] if best else references[0])
        progress.say(found["sentence"])
    return replace(recipe, backbone=",".join(chosen)) if chosen else recipe
