"""Compress: make a fitted model smaller and faster, and keep what is measurably both and answers as well."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstart.core import VERSION
from headstart.core.arrays import take
from headstart.core.bundle import Bundle
from headstart.core.errors import HeadstartError, UsageError
from headstart.core.gpu import machine
from headstart.core.progress import Progress, Quiet
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions
from headstart.core.threads import core_count
from headstart.runtime import Target
from headstart.stages import gate, judge
from headstart.stages.compress_taught import compress_taught, refuse_other_forms
from headstart.stages.ground import ground
from headstart.stages.kept import open_for
from headstart.stages.model import Model, open_targets
from headstart.stages.report.wording import tidy
from headstart.stages.smaller import Variant, Workshop
from headstart.stages.taught import is_taught
from headstart.stages.trials import WHOLE, Answers, Trial, answers_of, decided, judged, save_variant, time_all
from headstart.stages.wanted import Wanted

LEAST = 20
"""Judged rows without which nothing can be said."""


def compress(
    bundle: Path | str,
    *,
    precision: Sequence[str] = (),
    layers: Sequence[int] = (),
    dims: Sequence[int] = (),
    prune: Sequence[float] = (),
    heads: Sequence[float] = (),
    zero: Sequence[float] = (),
    distill: Sequence[int] = (),
    budget: float = 0.0,
    max_drop: float = 0.5,
    source: Any = None,
    test: Any = None,
    out: Path | str | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Try smaller forms of a fitted model, and write the fastest of those that are shown to answer as well.

    A network that answers by itself is judged by its task's own measure, such as word errors, and has precisions alone.

    A form is kept where it is faster beyond the noise of interleaved runs, and where the points that it loses on rows
    that nothing was chosen by are below `max_drop` with 95 % confidence. Nothing is written where none is.

    Args:
        bundle: the fitted model's folder.
        precision: `int8`, `f16`, `int4` of a network that writes, or engines with precisions such as `openvino f32`.
        layers: how many layers of a text encoder are to stay.
        dims: how many dimensions of its vectors are to stay.
        prune: shares of a text encoder's feed-forward channels, or of the channels between convolutions, that are left
            out; the others are fitted to do their work by least squares, on training rows.
        heads: shares of a text encoder's attention heads that are left out, beside what `prune` names or alone.
        zero: shares of the weights that are set to zero one by one, the smallest of each matrix; such forms are told
            for their size, and never kept.
        distill: how many layers a student is to have, which is trained on the labels and a tuned teacher's answers.
        budget: seconds that training may take for each form that is trained. With it, pruned encoders also learn to
            give the vectors of the whole one, and where no form is named, a student is tried; without it, nothing is
            trained but `distill`, which has 600 s then. Training needs PyTorch.
        max_drop: points of accuracy (or of 100 R², or of 100 of the task's measure) that may be lost; per cent of a
            perplexity.
        source: the table that it was fitted on, where that is no longer at the place that its report names.
        test: a labelled table to judge on in place of the rows that were held out.
        out: where to write what was chosen; beside the bundle where None.

    Returns:
        all that was measured, with `chosen`, the name of what was written, or an empty text.

    Raises:
        UsageError: no network of the model can be compressed, or a number is out of its range.
        DataError: there are no rows to judge on.
    """
    progress = progress or Quiet()
    if not 0 <= max_drop <= 100:
        raise UsageError(f"--max-drop is {max_drop}.", allowed="Points from 0 to 100.")
    for name, shares in (("prune", prune), ("heads", heads), ("zero", zero)):
        for share in shares:
            if not 0 < share < 1:
                raise UsageError(f"--{name} is {share:g}.", allowed="Shares between 0 and 1, such as 0.25,0.5.")
    if budget < 0:
        raise UsageError(f"--budget is {budget:g}.", allowed="Seconds from 0, or a time such as 5m.")
    taught = is_taught(bundle)
    if taught:
        forms = {"layers": layers, "dims": dims, "prune": prune, "heads": heads, "zero": zero, "distill": distill}
        refuse_other_forms({**forms, "budget": budget})
    own = Path(bundle)
    place = Path(out) if out else own.with_name(f"{own.resolve().name}-compressed")
    Bundle.check_place(place)
    if taught:
        given = {"source": source, "test": test, "options": options, "progress": progress}
        return compress_taught(bundle, precision=precision, max_drop=max_drop, place=place, **given)
    model = open_targets(bundle, progress)
    whole = _whole(model, progress)
    recipe = Recipe.from_toml(model.path / "recipe.toml")
    rows = ground(model, recipe, source, test, options, progress)
    if len(rows.judged) < LEAST:
        raise UsageError(
            f"There are {len(rows.judged)} rows to judge on.",
            allowed=f"At least {LEAST}.",
            hint="Give more labelled rows with --test TABLE.",
        )
    wanted = Wanted(precision, layers, dims, prune, heads, distill, budget, zero).resolved(whole.opened)
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        workshop = Workshop(whole, rows, recipe, Path(folder), model.path.resolve())
        return _gate(model, workshop, wanted, max_drop, place, progress)


def _whole(model: Model, progress: Progress) -> Variant:
    bundle = model.runtime.bundle
    opened = open_for(bundle, progress) if bundle else {}
    if not opened:
        raise UsageError(
            f"'{model.path}' has no pretrained network: there is nothing to compress.",
            hint="Its answers take next to no time already; see: headstart benchmark BUNDLE",
        )
    return Variant(WHOLE, opened, model.runtime.inputs, model.runtime.targets)


def _gate(
    model: Model, workshop: Workshop, wanted: Wanted, most: float, place: Path, progress: Progress
) -> dict[str, Any]:
    made: dict[str, Variant] = {WHOLE: workshop.whole}
    trials: dict[str, Trial] = {}
    makers = wanted.makers(workshop)
    for name, make in makers.items():
        progress.say(f"making {name}")
        try:
            made[name] = make()
        except HeadstartError as error:
            trials[name] = Trial(name, f"not tried: {error}")
    for name in list(made):
        made[name] = replace(made[name], name=name)
    clock = time_all(made, workshop.ground, progress)
    before = answers_of(workshop.whole, workshop.ground)
    trials[WHOLE] = judged(workshop, workshop.whole, before, before, clock)
    for name, variant in made.items():
        if name == WHOLE:
            continue
        pace = gate.pace(clock[WHOLE], clock[name])
        speed = clock[name].figures(clock[WHOLE])
        if variant.refit and not pace.faster and not variant.told:
            why = "not faster; its heads were not fitted"
            trials[name] = Trial(name, why, speed=speed, pace=asdict(pace))
            continue
        progress.say(f"judging {name}")
        try:
            made[name] = variant.refitted()
            own = answers_of(made[name], workshop.ground)
            trials[name] = replace(judged(workshop, made[name], own, before, clock), why=variant.told)
        except HeadstartError as error:
            trials[name] = Trial(name, f"not judged: {error.problem}", speed=speed, pace=asdict(pace))
    order = [WHOLE, *makers]
    found = decided({name: trials[name] for name in order}, most, len(workshop.ground.judged))
    return _written(model, workshop, made, found, most, place, progress)


def _written(
    model: Model,
    workshop: Workshop,
    made: Mapping[str, Variant],
    trials: Sequence[Trial],
    most: float,
    place: Path,
    progress: Progress,
) -> dict[str, Any]:
    best = next((each for each in trials if each.chosen), None)
    found = {
        "kind": "compress",
        "headstart": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "bundle": str(model.path),
        "machine": f"{machine()}, {core_count()} threads",
        "rows": len(workshop.ground.judged),
        "judged_on": workshop.ground.origin,
        "max_drop": most,
        "trials": [asdict(each) for each in trials],
        "chosen": best.name if best else "",
        "out": str(place) if best else "",
    }
    found["verdict"] = _verdict(found, trials, best)
    if best:
        report = _report(model, workshop, made[best.name], found)
        save_variant(place, workshop, made[best.name], report, found)
        progress.say(f"wrote {place}")
    return tidy(found)


def _report(model: Model, workshop: Workshop, variant: Variant, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's report with the figures of its smaller form in place of its own."""
    report = dict(model.report)
    own = answers_of(variant, workshop.ground)
    targets = {name: dict(each) for name, each in report.get("targets", {}).items()}
    for name, target in variant.targets.items():
        targets[name] = {**targets.get(name, {}), **_of_target(target, own, name)}
    chosen = next(each for each in found["trials"] if each["chosen"])
    speed = {
        **report.get("speed", {}),
        "latency_ms": {"p50": chosen["speed"]["p50_ms"], "p95": chosen["speed"]["p95_ms"]},
        "throughput_rows_per_s": chosen["speed"]["rows_per_s"],
        "precision": ", ".join(dict.fromkeys(each.precision for each in variant.opened.values())),
        "machine": found["machine"],
    }
    if speed.get("hourly_price"):
        speed["cost_per_1000"] = speed["hourly_price"] / 3600 / speed["throughput_rows_per_s"] * 1000
    compressed = {name: each for name, each in found.items() if name != "kind"}
    return {**report, "targets": targets, "speed": speed, "compressed": compressed, "bundle": found["out"]}


def _of_target(target: Target, own: Answers, name: str) -> dict[str, Any]:
    return judge.judge(target, take(own.features, own.rows[name]), own.y[name])


def _verdict(found: Mapping[str, Any], trials: Sequence[Trial], best: Trial | None) -> str:
    if best is None:
        return "Nothing is kept: no smaller form is both faster on this machine and shown to answer as well."
    before = trials[0]
    worst = max(best.drop.values(), key=lambda each: each["bound"])
    return (
        f"{best.name}: {best.pace['throughput']:.2f} times the rows a second, {best.pace['latency']:.2f} times as fast "
        f"on one row, {best.size / 1e6:.1f} MB in place of {before.size / 1e6:.1f}; {best.agreement:.1%} of answers as "
        f"before, {worst['points']:+.2f} points lost (below {worst['bound']:.2f} with 95 % confidence) on "
        f"{found['rows']:,} rows."
    )
