"""Compress a network that answers by itself: other forms of it, kept where they are faster and answer as well."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import formats, objectives, pipelines
from headstart.core import VERSION
from headstart.core.arrays import Arrays, Session
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.dataset import table_rows, take_rows
from headstart.core.errors import DataError, HeadstartError, UsageError, listed
from headstart.core.files import write_json
from headstart.core.gpu import machine
from headstart.core.objective import Objective
from headstart.core.progress import Progress, Quiet
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions, Table
from headstart.core.threads import core_count
from headstart.stages import gate
from headstart.stages.exam import Exam, Sat, speed
from headstart.stages.ground import HELD_OUT
from headstart.stages.kept import open_for
from headstart.stages.material import gather, labelled
from headstart.stages.networks import Listening, Opened, engines_of, start
from headstart.stages.report import write_report
from headstart.stages.report.taught import NAMES, PLAIN, UNLIKELY
from headstart.stages.report.wording import tidy
from headstart.stages.taught import save_taught, taught_of
from headstart.stages.teach_ladder import OWN
from headstart.stages.trials import WHOLE, Trial, decided
from headstart.stages.wanted import other_precisions

CALIBRATION = 100
"""Training rows by which the ranges of eight-bit numbers are chosen."""
INT8, F16, INT4 = "int8", "f16", "int4"
MANY = 16
"""Rows of a timed batch."""
TOKENS = 16
"""Tokens that are written of a timed text."""
SEVERAL = 2
"""Rows that are answered together while it is watched what a network reads."""


@dataclass(frozen=True)
class Bench:
    """What smaller forms are made of and judged by.

    Args:
        task: what the network does, which `objective` judges.
        whole: the network as it is.
        exam: the rows to judge on, and their `origin`.
        learnt: the training rows; None where they are not to be had, and `why`.
        folder: where networks are written.
    """

    task: str
    objective: Objective
    whole: Opened
    exam: Exam
    origin: str
    learnt: Table | None
    why: str
    folder: Path

    def run(self, session: Session, table: Table, fewer: bool = False) -> None:
        """Answer rows, as a user would have them answered; where answers are not judged, read them as they are."""
        inputs = self.objective.inputs(table)
        if not inputs:
            self.objective.measure(self.whole.network, session, table, 0)
            return
        pipeline = pipelines.registry.get(self.task)()
        options = pipeline.settle(dict(self.objective.options))
        if fewer and options.get("max_tokens"):
            options["max_tokens"] = min(TOKENS, options["max_tokens"])
        pipeline.run(self.whole.network, session, inputs, options)

    def heard(self) -> list[Arrays]:
        """Return what the network is given when it answers training rows.

        Raises:
            DataError: there are none.
        """
        if self.learnt is None:
            raise DataError(
                f"This needs training rows: {self.why}", hint="Name the table they are in with --source TABLE."
            )
        chosen = np.random.default_rng(self.exam.seed).permutation(table_rows(self.learnt))[:CALIBRATION]
        listening = Listening(self.whole.session)
        for at in range(0, len(chosen), SEVERAL):
            self.run(listening, take_rows(self.learnt, chosen[at : at + SEVERAL]), fewer=True)
        return listening.heard

    def made(self, name: str) -> Opened:
        """Return the network in another form or precision, such as `int8` or `openvino bf16`.

        Raises:
            HeadstartError: it cannot be made.
        """
        network, own = self.whole.network, self.whole.format
        if " " in name:
            engine, _, precision = name.rpartition(" ")
            offered = formats.registry.get(engine)().offered(network)
            if formats.registry.get(engine)().supports(network) or precision not in offered:
                raise UsageError(
                    f"{engine} does not run this network at {precision} here.",
                    allowed=f"Precisions: {listed(offered)}.",
                )
            return replace(start(network, engine, precision=precision), tuned=self.whole.tuned)
        maker = next((engine for engine, made_by in engines_of(network, own) if name in made_by.forms), "")
        if not maker:
            raise UsageError(f"{own} runs it, and makes no such form of it.", allowed="Networks that OpenVINO runs.")
        given = self.heard() if name == INT8 and not network.writes else []
        small = formats.registry.get(maker)().compress(network, name, given, self.folder / name)
        return replace(start(small, maker), tuned=f"{self.whole.tuned}, {name}".removeprefix(", "))


@final
class _Clocked:
    """A network as the gate times it."""

    def __init__(self, bench: Bench, opened: Opened) -> None:
        self.bench, self.opened = bench, opened

    def predict(self, table: Table) -> None:
        """Answer rows."""
        self.bench.run(self.opened.session, table, fewer=True)


def compress_taught(
    bundle: Path | str,
    *,
    precision: Sequence[str],
    max_drop: float,
    source: Any,
    test: Any,
    place: Path,
    options: ReadOptions,
    progress: Progress,
) -> dict[str, Any]:
    """Try other forms of a network that answers by itself, and write the fastest that is shown to answer as well.

    What may be lost is points of the primary measure (of 100), or per cent where it is no share, such as perplexity.

    Returns:
        all that was measured, as `compress` returns it.

    Raises:
        DataError: there are no rows to judge on.
    """
    held = Bundle.open(bundle)
    taught = taught_of(held)
    whole = next(iter(open_for(held, progress).values()))
    recipe, report = Recipe.from_toml(held.path / "recipe.toml"), held.json("report.json")
    judged, learnt, origin, why = _rows(whole, taught, recipe, report, source, test, options, progress)
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        exam = Exam(taught.objective, judged, recipe.seed)
        bench = Bench(taught.task, taught.objective, whole, exam, origin, learnt, why, Path(folder))
        names = list(precision) or _usual(whole)
        trials, made, sat = _trials(bench, names, progress)
        found = _told(held, bench, decided(trials, max_drop, table_rows(exam.asked())), max_drop)
        best = next((each for each in found["trials"] if each["chosen"]), None)
        if best:
            found["out"] = str(place)
            _write(place, recipe, bench, made[best["name"]], sat[best["name"]], report, found)
            progress.say(f"wrote {place}")
    return tidy(found)


def _rows(
    whole: Opened,
    taught: Any,
    recipe: Recipe,
    report: Mapping[str, Any],
    source: Any,
    test: Any,
    options: ReadOptions,
    progress: Progress,
) -> tuple[Table, Table | None, str, str]:
    """Return the rows to judge on, those learnt from or None, where the former come from, and why there are none."""
    data = report.get("data", {})
    old = str(data.get("test_origin", ""))
    held_out = HELD_OUT in old or old.startswith("the data's own")
    learnt, why, judged, origin = None, "", None, old or HELD_OUT
    own = {name: str(recipe.options[name]) for name in OWN.get(taught.task, ()) if name in recipe.options}
    try:
        asked = source if source is not None else data.get("origin", "")
        material = gather(asked, None if held_out or not old else old, taught.task, recipe, own, options, Quiet())
        if material.dataset.fingerprint() != data.get("fingerprint"):
            raise DataError(f"'{material.dataset.origin}' holds other rows now than when the network was tuned.")
        learnt, judged = material.table(material.train), material.table(material.test)
    except HeadstartError as error:
        why = error.problem
    if test is not None:
        judged, _, _ = labelled(taught.objective, whole.network.backbone.modality, test, options)
        origin = str(test)
    if judged is None:
        raise DataError(
            f"The rows that the network was tuned on cannot be used: {why}",
            hint="Name them with --source TABLE, or give labelled rows to judge on with --test TABLE.",
        )
    progress.say(f"judging on {table_rows(judged):,} rows: {origin}")
    return judged, learnt, origin, why


def _usual(whole: Opened) -> list[str]:
    """Return what is tried unasked: other engines and precisions, and the forms that an engine makes."""
    makers = [made_by for _, made_by in engines_of(whole.network, whole.format)]
    wanted = [INT8, F16, *([INT4] if whole.network.writes else [])]
    forms = [form for form in wanted if any(form in each.forms for each in makers)]
    found = [*other_precisions({"": whole}), *forms]
    if not found:
        raise UsageError(
            f"{whole.format} runs this network, and there is no smaller form of it.",
            allowed="Networks that OpenVINO runs: Wav2Vec2 and its kin, small ones that spell, YOLOX, and networks of "
            "transformers that read or write texts.",
        )
    return found


def _trials(
    bench: Bench, names: Sequence[str], progress: Progress
) -> tuple[dict[str, Trial], dict[str, Opened], dict[str, Sat]]:
    """Make, time and judge all forms; return what was measured, the networks, and how they did."""
    made, trials = {WHOLE: bench.whole}, dict[str, Trial]()
    for name in names:
        progress.say(f"making {name}")
        try:
            made[name] = bench.made(name)
        except HeadstartError as error:
            trials[name] = Trial(name, f"not tried: {error}")
    asked = bench.exam.asked()
    some = take_rows(asked, np.random.default_rng(0).permutation(table_rows(asked))[: 4 * MANY])
    progress.say(f"timing {len(made)} networks, one after the other, {gate.ROUNDS} times")
    clock = gate.timed({name: _Clocked(bench, each) for name, each in made.items()}, some, many=MANY)
    sat = {}
    for name, each in made.items():
        progress.say(f"judging {name}")
        sat[name] = bench.exam.sat(each.network, each.session, progress)
        trials[name] = _trial(bench, name, each, sat, clock)
    return {name: trials[name] for name in [WHOLE, *names]}, made, sat


def _trial(bench: Bench, name: str, opened: Opened, sat: Mapping[str, Sat], clock: Mapping[str, gate.Timing]) -> Trial:
    key, whole = bench.objective.primary, name == WHOLE
    value, ends = sat[name].figures[key], sat[name].figures.get(f"{key}_ci")
    figures = {"value": value, "ci": ends, "metric": key, "higher": bench.objective.higher}
    place = bench.folder / "bundles" / name.replace(" ", "_")
    _saved_alone(place, bench, opened)
    return Trial(
        name,
        accuracy={bench.task: figures},
        drop={} if whole else {bench.task: _drop(bench, sat[WHOLE], sat[name], len(clock) - 1)},
        agreement=_agreement(sat[WHOLE], sat[name]),
        speed=clock[name].figures(None if whole else clock[WHOLE]),
        pace={} if whole else asdict(gate.pace(clock[WHOLE], clock[name])),
        size=Bundle.open(place).size(),
        unit="per cent" if key in UNLIKELY else "points",
    )


def _drop(bench: Bench, before: Sat, after: Sat, forms: int) -> dict[str, float]:
    """Return how much worse a form does, and the bound below which that lies with 95 % confidence.

    The bound is of rows drawn anew, the same ones for both. Where hardly an answer differs, drawing rows anew shows no
    doubt, and there is one: that of rows of which none was answered worse (see `gate.drop`).
    """
    key = bench.objective.primary
    first, second = before.figures[key], after.figures[key]
    drawn = bench.exam.drawn(before, after)
    if drawn is None:
        raise DataError(f"No {NAMES.get(key, key)} can be told of these rows.")
    share = key not in UNLIKELY
    lost = (drawn[:, 0] - drawn[:, 1]) if bench.objective.higher else (drawn[:, 1] - drawn[:, 0])
    points = first - second if bench.objective.higher else second - first
    if not share:
        lost, points = lost / np.abs(drawn[:, 0]).clip(1e-9), points / max(abs(first), 1e-9)
    risk = gate.RISK / max(forms, 1)
    bound = float(np.quantile(lost, 1 - risk))
    if share and before.records:
        bound = max(bound, points + gate.unseen(len(before.records), forms))
    return {"points": 100 * float(points), "bound": 100 * bound}


def _agreement(before: Sat, after: Sat) -> float | None:
    """Return the share of equal texts; None where answers are no texts."""
    texts = [[each.get("text") for each in sat.records] for sat in (before, after)]
    if not texts[0] or not all(isinstance(each, str) for side in texts for each in side):
        return None
    return gate.agreement(*texts)


def _saved_alone(place: Path, bench: Bench, opened: Opened) -> None:
    """Write a form as a bundle without a report, to be weighed."""
    with Bundle.create(place, NETWORK) as part:
        save_taught(part, Recipe(), bench.task, bench.objective, opened)


def _told(held: Bundle, bench: Bench, trials: Sequence[Trial], most: float) -> dict[str, Any]:
    best = next((each for each in trials if each.chosen), None)
    found = {
        "kind": "compress",
        "headstart": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "bundle": str(held.path),
        "task": bench.task,
        "machine": f"{machine()}, {core_count()} threads",
        "rows": table_rows(bench.exam.asked()),
        "judged_on": bench.origin,
        "max_drop": most,
        "trials": [asdict(each) for each in trials],
        "chosen": best.name if best else "",
        "out": "",
    }
    return found | {"verdict": _verdict(found, trials[0], best)}


def _verdict(found: Mapping[str, Any], before: Trial, best: Trial | None) -> str:
    if best is None:
        return "Nothing is kept: no smaller form is both faster on this machine and shown to answer as well."
    (lost,) = best.drop.values()
    (figures,), (was,) = best.accuracy.values(), before.accuracy.values()
    key, percent = figures["metric"], figures["metric"] not in PLAIN
    shown = [f"{each['value']:.1%}" if percent else f"{each['value']:.3f}" for each in (was, figures)]
    return (
        f"{best.name}: {best.pace['throughput']:.2f} times the rows a second, {best.pace['latency']:.2f} times as fast "
        f"on one row, {best.size / 1e6:.1f} MB in place of {before.size / 1e6:.1f}; {NAMES.get(key, key)} {shown[0]} → "
        f"{shown[1]}, {lost['points']:+.2f} {best.unit} lost (below {lost['bound']:.2f} with 95 % confidence) on "
        f"{found['rows']:,} rows."
    )


def _write(
    place: Path,
    recipe: Recipe,
    bench: Bench,
    opened: Opened,
    sat: Sat,
    report: Mapping[str, Any],
    found: Mapping[str, Any],
) -> None:
    """Write what was chosen as a bundle, with its own figures in place of those of the network as it was."""
    told = {
        **report,
        "metrics": dict(sat.figures),
        "speed": speed(bench.exam, opened.network, opened.session, opened.precision, recipe.hourly_price),
        "backbone": {**report.get("backbone", {}), **opened.spec(True)},
        "compressed": {name: each for name, each in found.items() if name != "kind"},
        "bundle": str(place),
    }
    with Bundle.create(place, NETWORK) as part:
        save_taught(part, recipe, bench.task, bench.objective, opened)
        write_report(part, told)
        write_json(part / "compress.json", tidy(dict(found)))


def refuse_other_forms(asked: Mapping[str, Any]) -> None:
    """Raise UsageError where forms are asked for that are none of a network that answers by itself."""
    if named := [f"--{name}" for name, given in asked.items() if given]:
        raise UsageError(
            f"{listed(named)}: a network that answers by itself is made smaller in its numbers only.",
            allowed="--precision int8,f16, or an engine with its precision, such as 'openvino bf16'.",
            hint=f"Tasks: {listed(objectives.registry.names())}. Shorter vectors and fewer layers are for --target.",
        )
