"""Fit: adapt a pretrained model to a table, prove it, and write a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import methods
from headstart.core import VERSION
from headstart.core.arrays import take
from headstart.core.bundle import HEADS, NETWORK, Bundle
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError
from headstart.core.files import cache_folder
from headstart.core.method import Budget, Job
from headstart.core.progress import Progress, Quiet, timed
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions, Table
from headstart.core.threads import core_count, process_rank
from headstart.runtime import Runtime
from headstart.stages import advice, judge, networks, speed
from headstart.stages.check import Checked, check, usable
from headstart.stages.choose import settled
from headstart.stages.course import check_settings
from headstart.stages.files import folder_of, is_file, opened_files, renamed_file, with_files
from headstart.stages.infer import infer
from headstart.stages.kept import open_for
from headstart.stages.ladder import climb, forget
from headstart.stages.learn import Learnt, learn
from headstart.stages.model import Model
from headstart.stages.prepare import Prepared, joined_tables, prepare, split
from headstart.stages.pretrained import Pretrained
from headstart.stages.read import describe, read_table, table_name
from headstart.stages.report import write_report
from headstart.stages.save import save
from headstart.stages.teach import teach

NAIVE_SHARE = 0.1
"""Share of rows with a near twin from which the report also says what a random split would have claimed."""
NAIVE_ROWS = 4000
"""Rows that this comparison uses at most."""


def fit(
    source: Any,
    *,
    target: str | Sequence[str] = (),
    input: str | Sequence[str] = (),
    test: Any = None,
    unlabelled: Any = None,
    task: Mapping[str, str] | str | None = None,
    group: str = "",
    backbone: str = "auto",
    weights: str = "",
    method: str = "auto",
    budget: float = 0.0,
    seed: int = 0,
    precision_target: float = 0.95,
    test_share: float = 0.2,
    hourly_price: float = 0.10,
    settings: Mapping[str, Any] | None = None,
    search: int = 0,
    curve: str = "auto",
    resume: bool = False,
    out: Path | str | None = None,
    portable: bool = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> Model | Pretrained:
    """Fit a model on a table and return it opened.

    Args:
        source: a file, folder, SQL reference, or frame.
        target: columns to predict; inferred where empty.
        input: columns to predict from; inferred where empty.
        test: another table to judge on; else `test_share` of the rows is held out, near twins together.
        unlabelled: a table of the same inputs without labels, which some methods that change weights learn from.
        task: for a target, the task's name instead of the inferred one; or one name alone, such as `detect`: what a
            network learns to answer by itself, see `stages/teach.py`.
        group: a column whose rows never stand on both sides of a split (a speaker, a patient, a product).
        backbone: `hub:name`, several separated by commas (one for texts, one for pictures), or `auto`.
        weights: a local file whose weights are put into the named backbone.
        method: `auto`, `probe`, `scratch`, or one that changes the network's weights, such as `finetune`. `auto`
            takes the best of the first two on held-out training rows; with a budget it climbs on to
            those that change weights.
        budget: seconds; 0 means no limit.
        settings: the method's own, such as `{"epochs": 3}`.
        search: trials in which settings of a method that changes weights are searched, by optuna, within the budget.
        curve: `auto` measures a quick learning curve of frozen features, `on` one of more rows, `off` none.
        resume: go on with a fit of the same data and recipe that was cut off while it tuned a network.
        out: the bundle's place; `models/<table's name>` where None.
        portable: carry the backbone inside the bundle.

    Raises:
        HeadstartError: with what is wrong, what is allowed and what to do.
    """
    recipe = Recipe(
        target=_names(target),
        input=_names(input),
        task={"": task.replace("-", "_")} if isinstance(task, str) else dict(task or {}),
        group=group,
        backbone=backbone,
        weights=str(weights),
        method=method,
        budget=budget,
        precision_target=precision_target,
        test_share=test_share,
        seed=seed,
        hourly_price=hourly_price,
        options=dict(settings or {}),
        curve=curve,
        search=search,
    )
    if method != "auto":
        methods.registry.get(method)
    place = Path(out) if out else Path("models") / table_name(source)
    if process_rank():
        place = cache_folder() / "runs" / f"process{process_rank()}"  # The first process of several writes the bundle.
    Bundle.check_place(place)
    if "" in recipe.task:
        return teach(source, test, recipe.task[""], recipe, options, place, progress or Quiet(), resume)
    given = Given(source, test, unlabelled, options)
    check_settings(recipe)
    return _fit(given, recipe, place, progress or Quiet(), portable=portable, resume=resume)


@dataclass(frozen=True)
class Given:
    """The tables of a fit, and how they are to be read."""

    source: Any
    test: Any
    unlabelled: Any
    options: ReadOptions


def _fit(given: Given, recipe: Recipe, place: Path, progress: Progress, *, portable: bool, resume: bool) -> Model:
    started = Budget(recipe.budget)
    timings: dict[str, float] = {}
    with timed(timings, "read"):
        dataset, test_set = read_given(given, recipe)
        more = _more_rows(given, dataset)
        for note in dataset.notes:
            progress.say(note)
    with timed(timings, "check"):
        checked, test_rows = check_given(dataset, test_set, recipe.group)
    with timed(timings, "embed"):
        rows = split(checked, recipe, test_rows)
        recipe = settled(recipe, checked, rows, progress)
        prepared = prepare(checked.dataset, rows, checked.groups, recipe, progress)
        told = advice.before(prepared, recipe, progress)
    with timed(timings, "race"):
        learnt = {name: learn(prepared, name, recipe, started, progress) for name in prepared.tasks}
    with timed(timings, "curve"):
        curves = advice.curves(prepared, recipe, started)
    with timed(timings, "tune"):
        climbed = climb(prepared, learnt, recipe, started, progress, more, resume=resume)
        prepared, learnt = climbed.prepared, climbed.learnt
    with timed(timings, "evaluate"):
        report = _report(prepared, checked, learnt, recipe, test_set)
        advice.put(report, told, curves)
    report |= {
        "headstart": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": asdict(recipe),
        "bundle": str(place),
        "seconds": time.monotonic() - started.started,
        "timings": timings,
        **({"ladder": [asdict(each) for each in climbed.ladder]} if climbed.ladder else {}),
    }
    model = _write(place, prepared, learnt, recipe, report, portable, progress)
    forget(climbed)
    return model


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value)
    return tuple(name.strip() for name in names if name.strip())


def read_given(given: Given, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """Return the rows with what is inferred of them, their files opened, and the test table where one was given."""
    source, test, options = given.source, given.test, given.options
    table, notes = read_table(source, options)
    dataset = infer(
        table, targets=recipe.target, inputs=recipe.input, group=recipe.group, origin=describe(source), notes=notes
    )
    dataset = with_files(dataset, source)
    if test is None:
        return dataset, None
    other, _ = read_table(test, options)
    files = [name for modality, columns in dataset.inputs.items() if is_file(modality) for name in columns]
    other = opened_files(renamed_file(other, files), files, folder_of(test))
    wanted = Dataset(other, dataset.inputs, dataset.targets, dataset.kinds, origin=describe(test))
    for name in [*wanted.input_columns, *wanted.targets]:
        wanted.column(name)
    return dataset, wanted


def _more_rows(given: Given, dataset: Dataset) -> Table | None:
    """Return the input columns of the table without labels, its files opened; None where none was given."""
    if given.unlabelled is None:
        return None
    table, _ = read_table(given.unlabelled, given.options)
    files = [name for modality, columns in dataset.inputs.items() if is_file(modality) for name in columns]
    table = opened_files(renamed_file(table, files), files, folder_of(given.unlabelled))
    wanted = Dataset(table, dataset.inputs, origin=describe(given.unlabelled))
    return {name: wanted.column(name) for name in wanted.input_columns}


def check_given(dataset: Dataset, test_set: Dataset | None, group: str) -> tuple[Checked, int]:
    """Return training and test rows checked together, training rows first, and how many test rows there are."""
    if test_set is None:
        return check(dataset, group), 0
    warnings: list[str] = []
    train, tested = usable(dataset, warnings), usable(test_set, [])
    checked = check(joined_tables(train, tested))
    known = set(checked.groups[: len(train)].tolist())
    shared = sum(group in known for group in checked.groups[len(train) :].tolist())
    warnings += checked.warnings
    if shared:
        warnings.append(f"{shared:,} of the {len(tested):,} test rows have a near twin among the training rows.")
    return replace(checked, warnings=warnings), len(tested)


def _report(
    prepared: Prepared, checked: Checked, learnt: Mapping[str, Learnt], recipe: Recipe, test_set: Dataset | None
) -> dict[str, Any]:
    targets: dict[str, Any] = {}
    for name, each in learnt.items():
        rows = prepared.rows(name, test=True)
        if not len(rows):
            raise DataError(f"The target '{name}' has no label in any test row.", hint="Give more labelled rows.")
        report = judge.judge(each.target, take(prepared.features, rows), prepared.encoded(name, rows))
        report["method"], report["race"] = each.method, list(each.race)
        pretrained = methods.registry.get(each.method).pretrained
        report["verdict"] = judge.verdict(name, report, signal=each.signal, pretrained=pretrained)
        if test_set is None and checked.twins["rows"] > NAIVE_SHARE * len(checked.dataset):
            naive = _naive(prepared, name, recipe)
            report |= naive
            report["verdict"] += judge.naive_verdict(report)
        targets[name] = report
    used = sorted({each.method for each in learnt.values()})
    dataset = prepared.dataset
    return {
        "kind": "fit",
        "data": {
            "origin": dataset.origin,
            "rows": len(dataset),
            "train_rows": int((~prepared.test).sum()),
            "test_rows": int(prepared.test.sum()),
            "test_origin": test_set.origin if test_set else f"{recipe.test_share:.0%} held out, near twins together",
            "fingerprint": dataset.fingerprint(),
            "inputs": {name: list(columns) for name, columns in dataset.inputs.items()},
            "notes": list(dataset.notes),
            "warnings": [*checked.warnings, *prepared.warnings],
            "twins": checked.twins,
        },
        "method": ", ".join(used),
        "backbone": networks.summary(prepared.opened),
        "rows": int(prepared.test.sum()),
        "verdict": " ".join(report["verdict"] for report in targets.values()),
        "targets": targets,
        "speed": speed.measure(_runtime(prepared, learnt), dataset, prepared, recipe.hourly_price),
    }


def _naive(prepared: Prepared, name: str, recipe: Recipe) -> dict[str, Any]:
    """Return the baseline's primary metric under a random split and under the honest one, on the same rows."""
    rows = np.sort(np.concatenate([prepared.rows(name, test) for test in (False, True)]))
    rng = np.random.default_rng(recipe.seed)
    rows = rng.permutation(rows)[:NAIVE_ROWS]
    y, features = prepared.encoded(name, rows), take(prepared.features, rows)
    known = _known(y)
    rows, y, features = rows[known], y[known], take(features, np.flatnonzero(known))
    result = {}
    for key, groups in (("random_split", np.arange(len(rows))), ("grouped_split", prepared.groups[rows])):
        job = Job(prepared.tasks[name], y, features, groups, recipe.seed, Budget(), core_count(), Quiet())
        held_out = methods.head_methods()["scratch"]().fit(job).held_out
        result[f"{key}_{job.task.primary}"] = float(job.task.correct(held_out, y).mean())
    return result


def _known(y: np.ndarray) -> np.ndarray:
    return (y >= 0) if y.ndim == 1 and y.dtype.kind == "i" else np.ones(len(y), bool)


def _runtime(prepared: Prepared, learnt: Mapping[str, Learnt]) -> Runtime:
    return Runtime(None, prepared.inputs, prepared.sessions, {name: each.target for name, each in learnt.items()})


def _uses_network(method: str) -> bool:
    return methods.registry.get(method).pretrained or method in methods.network_methods()


def _write(
    place: Path,
    prepared: Prepared,
    learnt: Mapping[str, Learnt],
    recipe: Recipe,
    report: dict[str, Any],
    portable: bool,
    progress: Progress,
) -> Model:
    needed = any(_uses_network(each.method) and each.signal for each in learnt.values())
    opened = prepared.opened if needed else {}
    adapted = any(each.adapter for each in opened.values()) and not portable
    with Bundle.create(place, NETWORK if adapted else HEADS) as part:
        save(part, recipe, prepared.inputs, {name: each.target for name, each in learnt.items()}, opened, portable)
        write_report(part, report)
    progress.say(f"wrote {place}")
    bundle = Bundle.open(place)
    if any(each.tuned for each in opened.values()):
        # The folder in which it was tuned is about to go.
        kept = open_for(bundle, progress)
        runtime = Runtime.open(
            bundle,
            {name: each.network for name, each in kept.items()},
            {name: each.session for name, each in kept.items()},
        )
        return Model(runtime, report)
    sessions = {name: each.session for name, each in opened.items()}
    runtime = Runtime(bundle, prepared.inputs, sessions, _runtime(prepared, learnt).targets)
    return Model(runtime, report)
