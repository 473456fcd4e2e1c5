"""Benchmark: how fast a fitted model answers on this machine, and how much of what the machine can do that is."""

from __future__ import annotations

import contextlib
import io
import platform
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core import VERSION
from headstart.core.arrays import Arrays
from headstart.core.blob import Blob
from headstart.core.errors import DataError, UsageError
from headstart.core.gpu import gpu
from headstart.core.progress import Progress, Quiet
from headstart.core.registry import require
from headstart.core.source import Table
from headstart.core.threads import core_count, processor
from headstart.pipelines.fill_mask import mask_of
from headstart.runtime import Runtime
from headstart.stages.kept import open_for
from headstart.stages.model import Model, open_model
from headstart.stages.networks import Listening, Opened, engines_of
from headstart.stages.pretrained import Pretrained

BATCHES = (1, 8, 32, 128)
WORDS = (8, 32, 128)
"""Words of a text."""
SIDES = (224, 1024)
"""Pixels of a picture's side."""
TOKENS = 32
"""Tokens that a network that writes is asked for."""
LENGTHS = (1, 10)
"""Seconds of a recording."""
SPAN, LEAST, MOST = 0.7, 3, 30
"""Seconds that one figure is measured for, and how many runs it takes at least and at most."""
PACKAGES = ("numpy", "openvino", "onnxruntime", "torch", "tokenizers")
POWER = Path("/sys/class/powercap")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
"""What processors can do that decides about speed."""


@dataclass(frozen=True)
class Figure:
    """How long a batch of rows of one size takes.

    Args:
        size: what the rows are, such as `32 words`.
        batch: how many.
        p50_ms, p95_ms: of the whole batch.
        rows_per_s: at the median.
        runs: how often it was run.
    """

    size: str
    batch: int
    p50_ms: float
    p95_ms: float
    rows_per_s: float
    runs: int


@dataclass(frozen=True)
class Share:
    """How much of the machine's best a network reaches on its own.

    Args:
        engine: what runs it.
        size: what the rows are.
        operations: floating-point operations of one row, padding included.
        reached, peak: operations a second, of the network and of a large matrix product.
    """

    modality: str
    engine: str
    size: str
    operations: float
    reached: float
    peak: float

    @property
    def share(self) -> float:
        """Part of the peak."""
        return self.reached / self.peak


def benchmark(
    bundle: Model | Pretrained | Path | str,
    *,
    batches: Sequence[int] = BATCHES,
    progress: Progress | None = None,
    span: float = SPAN,
) -> dict[str, Any]:
    """Measure a fitted model, or a network that answers by itself, on made-up rows, and return the figures.

    Args:
        bundle: an opened model, or the folder of one. A network that writes is given 32 tokens to write.
        batches: numbers of rows.
        span: seconds for which each figure is measured.

    Returns:
        `latency`, a list of figures; `network`, the share of the machine's peak that each network reaches; `energy`,
        joules of 1,000 rows, or why that cannot be read; `machine` and `versions`.

    Raises:
        UsageError: a batch has no rows.
        BundleError: the bundle cannot be opened.
    """
    if not batches or min(batches) < 1:
        raise UsageError(f"--batch is {list(batches)}.", allowed="Whole numbers from 1.")
    progress = progress or Quiet()
    model = open_model(bundle, progress) if isinstance(bundle, (str, Path)) else bundle
    subject = _of_network(model, progress) if isinstance(model, Pretrained) else _of_targets(model, progress)
    figures = []
    for name, row in subject.sizes.items():
        progress.say(f"timing rows of {name}")
        figures += [_figure(subject, name, row, batch, span) for batch in sorted(set(batches))]
    best = max(figures, key=lambda each: each.rows_per_s)
    opened, row = subject.opened, subject.sizes[best.size]
    return {
        "kind": "benchmark",
        "bundle": _name(model),
        "machine": _machine(),
        "versions": {"headstart": VERSION, "python": platform.python_version(), **_versions()},
        "networks": {name: _told(each) for name, each in opened.items()},
        "latency": [asdict(each) for each in figures],
        "best": asdict(best),
        "network": [{**asdict(each), "share": each.share} for each in _shares(subject, span, progress)],
        "energy": _energy(lambda: subject.ask(row, best.batch), best.batch, span),
    }


def _name(model: Model | Pretrained) -> str:
    """Return the bundle's place, or the reference of a network that is measured as it is."""
    if isinstance(model, Pretrained) and model.bundle is None:
        return model.network.backbone.reference
    return str(model.path)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        sizes: rows of growing size by what they are called.
        ask: answers so many rows of one kind.
        opened: its networks, by modality.
        encoded: what a network is given for so many rows of one kind.
    """

    sizes: Mapping[str, Any]
    ask: Callable[[Any, int], object]
    opened: Mapping[str, Opened]
    encoded: Callable[[str, Any, int], Arrays]


def _of_targets(model: Model, progress: Progress) -> Subject:
    runtime = model.runtime

    def rows(row: Mapping[str, Any], count: int) -> Table:
        return {column: [row.get(column)] * count for column in runtime.columns}

    def encoded(name: str, row: Mapping[str, Any], count: int) -> Arrays:
        modality = next(each for each in runtime.inputs if modalities.name_of(each) == name)
        bound = modality.bind(opened[name].network)
        return bound.encode(bound.prepare(rows(row, count)))

    opened = open_for(runtime.bundle, progress) if runtime.bundle else {}
    return Subject(_sizes(runtime), lambda row, count: runtime.predict(rows(row, count)), opened, encoded)


def _of_network(model: Pretrained, progress: Progress) -> Subject:
    opened = open_for(model.bundle, progress) if model.bundle else {}
    modality, pipeline = model.network.backbone.modality, model.pipeline
    options = pipeline.settle({**model.usual, **({"max_tokens": TOKENS} if model.task == "generate" else {})})
    made: dict[str, Any] = {f"{count} words": _words(count) for count in WORDS}
    if modality in ("image", "audio"):
        made = _files(modality)
    elif model.task == "fill_mask":
        made = {name: f"{text} {mask_of(model.network)}" for name, text in made.items()}

    def encoded(_: str, row: Any, count: int) -> Arrays:
        listening = Listening(model.session)
        pipeline.run(model.network, listening, [row] * count, options)
        return listening.heard[-1] if listening.heard else {}

    def ask(row: Any, count: int) -> object:
        return pipeline.run(model.network, model.session, [row] * count, options)

    return Subject(_readable(made, ask, progress), ask, opened, encoded)


def _readable(made: Mapping[str, Any], ask: Callable[[Any, int], object], progress: Progress) -> dict[str, Any]:
    """Return the rows that a network can read, which may be too long for it.

    Raises:
        DataError: there are none.
    """
    found, reason = {}, None
    for name, row in made.items():
        try:
            ask(row, 1)
        except DataError as error:
            progress.say(f"{name}: {error.problem}")
            reason = error
        else:
            found[name] = row
    if not found and reason is not None:
        raise reason
    return found


def _words(count: int) -> str:
    words = "My order has not arrived yet and I would like to know where the parcel is now".split()  # noqa: SIM905
    return " ".join(np.resize(words, count))


def _files(modality: str) -> dict[str, Any]:
    if modality == "image":
        return {f"{side} × {side} pixels": _picture(side) for side in SIDES}
    return {f"{seconds} s of sound": _recording(seconds) for seconds in LENGTHS}


def _sizes(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Return rows of growing size by what they are called; one alone where size does not count."""
    example = {name: (each.get("examples") or [None])[0] for name, each in runtime.input_schema().items()}
    column, files = runtime.main_column, runtime.file_columns
    kind = next(modalities.name_of(each) for each in runtime.inputs if column in each.columns)
    if column in files:
        return {name: {**example, **dict.fromkeys(files, each)} for name, each in _files(kind).items()}
    if kind != "text":
        return {"one row": example}
    return {f"{count} words": {**example, column: _words(count)} for count in WORDS}


def _picture(side: int) -> Blob:
    pixels = np.random.default_rng(0).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    image, file = require("PIL.Image", "image"), io.BytesIO()
    image.fromarray(pixels).resize((side, side)).save(file, "JPEG")
    return Blob(f"{side}.jpg", file.getvalue)


def _recording(seconds: int, rate: int = 16_000) -> Blob:
    tone = 8_000 * np.sin(2 * np.pi * 220 * np.arange(seconds * rate) / rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(tone.astype("<i2").tobytes())
    return Blob(f"{seconds}s.wav", file.getvalue)


def _figure(subject: Subject, name: str, row: Any, batch: int, span: float) -> Figure:
    taken = _runs(lambda: subject.ask(row, batch), span)
    middle = float(np.median(taken))
    return Figure(name, batch, 1000 * middle, 1000 * float(np.quantile(taken, 0.95)), batch / middle, len(taken))


def _runs(call: Callable[[], object], span: float) -> list[float]:
    """Return the seconds of each run, after one that does not count."""
    call()
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < LEAST or (time.perf_counter() - started < span and len(taken) < MOST):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return taken


def _shares(subject: Subject, span: float, progress: Progress) -> list[Share]:
    """Return how near to the machine's peak each network comes, for rows of each size in a batch of 32 or 8 files."""
    found = []
    for name, each in subject.opened.items():
        # An engine that cannot count has its operations counted by another one that runs the same network.
        counts = (
            (engine, engine.peak(each.precision, core_count())) for _, engine in engines_of(each.network, each.format)
        )
        counting = next((found for found in counts if found[1]), None)
        if counting is None or each.network.writes:
            continue  # what writes reads its weights anew for each token, which no peak of products tells
        engine, peak = counting
        rows = 32 if name == "text" else 8
        for size, row in subject.sizes.items():
            progress.say(f"counting the operations of {size}")
            encoded = subject.encoded(name, row, rows)
            operations = engine.operations(each.network, encoded) if encoded else 0.0
            if operations:
                seconds = float(np.median(_runs(partial(each.session.run, encoded), span)))
                title = f"{each.format} {each.precision}"
                taken = len(encoded.get("lengths", encoded.get("pixels", [None] * rows)))
                found.append(Share(name, title, size, operations / taken, operations / seconds, peak))
    return found


def _energy(call: Callable[[], object], rows: int, span: float) -> dict[str, Any]:
    """Return the joules that 1,000 rows take, as the processor itself counts them; or why that cannot be read."""
    before = _joules()
    if before is None:
        return {"why": f"no energy counter can be read in {POWER} (most machines let only root read it)"}
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < max(2 * span, 0.1):
        call()
        runs += 1
    after = _joules()
    seconds = time.perf_counter() - started
    if after is None or after < before:
        return {"why": "the energy counter began anew while it was read"}
    return {"joules_per_1000": 1000 * (after - before) / (runs * rows), "watts": (after - before) / seconds}


def _joules() -> float | None:
    """Return the joules that all processor packages have taken so far; None where they are not told."""
    counters = []
    with contextlib.suppress(OSError, ValueError):
        for folder in sorted(POWER.glob("*-rapl:[0-9]")):
            counters.append(int((folder / "energy_uj").read_text()) / 1e6)
    return sum(counters) if counters else None


def _told(opened: Opened) -> dict[str, Any]:
    backbone = opened.network.backbone
    return {
        "reference": backbone.reference,
        "parameters": backbone.parameters,
        "size": backbone.size,
        "engine": f"{opened.format} {opened.precision}",
        "tuned": opened.tuned,
    }


def _machine() -> dict[str, Any]:
    flags: set[str] = set()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = set(next(line for line in lines if line.startswith("flags")).split())
    return {
        "processor": processor(),
        "gpu": gpu(),
        "threads": core_count(),
        "system": f"{platform.system()} {platform.release()}",
        "able": [name for name in FLAGS if name in flags],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
