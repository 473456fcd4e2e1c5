"""Which engine runs a network, and in which precision: measured on this machine on rows of the user's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from headstart import formats
from headstart.core import VERSION
from headstart.core.arrays import Arrays, Session, row_count
from headstart.core.backbone import Network
from headstart.core.dataset import table_rows, take_rows
from headstart.core.errors import HeadstartError, HubError, MissingExtra
from headstart.core.files import cache_folder, read_json, write_json
from headstart.core.format import Format, Unfit
from headstart.core.gpu import gpu, machine
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.core.source import Table
from headstart.core.threads import core_count
from headstart.stages.networks import Opened, start

BUDGET = 3.0
"""Seconds that measuring may take."""
ROWS, FILES = 48, 6
"""Rows that are run: texts, and files."""
ROUNDS = 3
WORTH = 1.25
"""How much faster an engine has to be than the one that would be taken unasked.

With less, the same fit would take one engine today and another one tomorrow, by what else the machine does.
"""
PLAIN = "f32"
PACKAGES = ("openvino", "onnxruntime", "torch")
"""Packages whose version decides how fast an engine is."""
SHOWN = 80
HURRIED = "not measured, for lack of time"


@dataclass(frozen=True)
class Engine:
    """One way to run a network here."""

    name: str
    precision: str
    format: Format

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Choice:
    """What was chosen, the rows a second of all that were measured, and why others were not."""

    name: str
    precision: str
    rates: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """The figures as a sentence, the fastest first."""
        rates = sorted(self.rates.items(), key=lambda each: -each[1])
        parts = [f"{name}: {rate:,.0f} rows/s" for name, rate in rates]
        return "; ".join([*parts, *(f"{name}: {reason}" for name, reason in self.left_out.items())])


def engines(network: Network) -> tuple[list[Engine], dict[str, str]]:
    """Return what can run a network here, what would be taken unasked first; and why others are not asked."""
    found: list[Engine] = []
    left_out: dict[str, str] = {}
    known: dict[str, Format] = {}
    for name in formats.registry.names():
        try:
            known[name] = formats.registry.get(name)()
        except MissingExtra:
            continue
    for name, engine in sorted(known.items(), key=lambda each: each[1].rank):
        if engine.heavy and engine.heavy not in sys.modules:
            left_out[name] = f"not measured, for it takes seconds to import {engine.heavy}"
        elif not engine.supports(network):
            found += [Engine(name, precision, engine) for precision in engine.offered(network)]
    return found, left_out


def settled(opened: Opened, modality: Modality, table: Table, progress: Progress) -> Opened:
    """Return a network opened with the engine and the precision that are fastest here, on rows of a table.

    Where only one can run it, nothing is measured. What was measured is kept in the cache for this processor, network,
    length of rows and versions.

    Raises:
        HubError: two engines give different vectors in the same precision.
    """
    able, left_out = engines(opened.network)
    if len(able) < 2 or not table_rows(table):
        return opened
    encoded, shown = sample(modality, table)
    kept = _place(opened.network, encoded, able)
    choice = _known(kept, able)
    if choice is None:
        choice = measured(opened.network, able, left_out, encoded, shown)
        # A cache that cannot be written costs time, no more. What a busy machine left out is measured next time.
        if HURRIED not in choice.left_out.values():
            with contextlib.suppress(HeadstartError, OSError):
                write_json(kept, vars(choice))
    progress.say(f"engine for {opened.network.backbone.modality}: {choice.why}")
    if (choice.name, choice.precision) == (opened.format, opened.precision):
        return replace(opened, why=choice.why)
    running = start(opened.network, choice.name, precision=choice.precision)
    return replace(
        running, view=opened.view, tuned=opened.tuned, adapter=opened.adapter, base=opened.base, why=choice.why
    )


def sample(modality: Modality, table: Table) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return a few encoded rows of a table, and what the user would know them by."""
    rows = table_rows(table)
    some = np.random.default_rng(0).permutation(rows)[: FILES if modality.files else ROWS]
    prepared = modality.prepare(take_rows(table, some))
    names = [str(each)[:SHOWN] for each in prepared["text"]] if "text" in prepared else [f"row {row}" for row in some]
    return modality.encode(prepared), names


def measured(
    network: Network, able: Sequence[Engine], left_out: Mapping[str, str], encoded: Arrays, shown: Sequence[str]
) -> Choice:
    """Run rows with each engine, compare what they give, and choose the fastest; the usual one where it is about even.

    Args:
        able: the engines, the one that is taken unasked first.
        encoded: rows as networks read them.
        shown: what a row is called in an error.

    Raises:
        HubError: engines differ in the same precision.
    """
    started = time.monotonic()
    reasons = dict(left_out)
    sessions: dict[str, Session] = {}
    vectors: dict[str, np.ndarray] = {}
    # What the others are compared to is opened first; what is taken unasked is measured on the slowest machine, too.
    for each in sorted(able, key=lambda one: (one.precision != PLAIN, not one.format.heavy)):
        if vectors and each is not able[0] and time.monotonic() - started > BUDGET:
            reasons[each.title] = HURRIED
            continue
        try:
            session = each.format.open(network, each.precision, core_count())
        except Unfit as error:
            reasons[each.title] = error.problem
            continue
        vectors[each.title] = session.run(encoded)["embedding"]
        first = next(iter(vectors))
        wrong = difference(vectors[first], vectors[each.title], each.format.tolerance, shown)
        if wrong and each.precision == PLAIN:
            raise HubError(
                f"{each.title} and {first} give different vectors for '{network.backbone.reference}': {wrong}.",
                hint="One of them computes this network wrongly. Name another --backbone, and please report it.",
            )
        if wrong:
            reasons[each.title] = f"too inexact ({wrong})"
            continue
        if gpu():
            session.run(encoded)  # a shape that comes for the second time is recorded, which takes longer than runs do
        sessions[each.title] = session
    rates = _rates({name: session.run for name, session in sessions.items()}, encoded, started)
    usual = next(each for each in able if each.title in rates)
    best = max((each for each in able if each.title in rates), key=lambda each: rates[each.title])
    chosen = best if rates[best.title] > WORTH * rates[usual.title] else usual
    return Choice(chosen.name, chosen.precision, rates, reasons)


def _rates(run: Mapping[str, Any], encoded: Arrays, started: float) -> dict[str, float]:
    """Return the best rows a second of each engine over a few rounds, one after the other in each."""
    best = dict.fromkeys(run, 0.0)
    for number in range(ROUNDS):
        for name, each in run.items():
            if number and time.monotonic() - started > BUDGET:
                return best
            before = time.perf_counter()
            each(encoded)
            best[name] = max(best[name], row_count(encoded) / (time.perf_counter() - before))
    return best


def difference(theirs: np.ndarray, ours: np.ndarray, tolerance: float, shown: Sequence[str]) -> str:
    """Return an empty string where vectors agree, else the row that differs most.

    Args:
        theirs, ours: (n, width).
        tolerance: largest accepted 1 - cosine.
        shown: (n,) what rows are called.
    """
    if theirs.shape != ours.shape:
        return f"{list(theirs.shape)} in place of {list(ours.shape)} numbers"
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    apart = 1 - (theirs * ours).sum(axis=1) / np.maximum(lengths, 1e-12)
    # A row of zeros in both has no direction that could differ; what is no number never agrees.
    apart = np.where(np.abs(theirs).max(axis=1) + np.abs(ours).max(axis=1) == 0, 0.0, np.nan_to_num(apart, nan=2.0))
    worst = int(apart.argmax())
    if apart[worst] <= tolerance:
        return ""
    return f"cosine {1 - apart[worst]:.4f} for '{shown[worst]}', where {1 - tolerance:g} is needed"


def _place(network: Network, encoded: Arrays, able: Sequence[Engine]) -> Path:
    """Return where the choice is kept: what decides about it is in the file's name."""
    length = float(np.mean(encoded["lengths"])) if "lengths" in encoded else 0.0
    identity = {
        "version": VERSION,
        "versions": [_version(name) for name in PACKAGES],
        "machine": [machine(), core_count()],
        "network": [network.backbone.checksum, network.backbone.weights, network.architecture, network.use],
        "reads": [dict(network.preprocessing), dict(network.pooling)],
        "engines": [each.title for each in able],
        "length": round(np.log2(length + 1)),
    }
    name = hashlib.blake2b(json.dumps(identity, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
    return cache_folder() / "engines" / f"{name}.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _known(place: Path, able: Sequence[Engine]) -> Choice | None:
    if not place.is_file():
        return None
    try:
        choice = Choice(**read_json(place, HubError))
        return choice if f"{choice.name} {choice.precision}" in [each.title for each in able] and choice.why else None
    except (HeadstartError, TypeError, AttributeError):
        return None
