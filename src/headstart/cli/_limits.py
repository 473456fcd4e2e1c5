"""Options of `headstart serve` that say how much it takes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from headstart.core.errors import UsageError

if TYPE_CHECKING:
    from headstart.server.limits import Limits

KNOBS = {
    "max_body_mb": (float, 10.0, "MB", "longest body of a request, and largest file that is fetched"),
    "max_rows": (int, 10_000, "N", "most rows of a request"),
    "max_characters": (int, 1_000_000, "N", "longest text"),
    "max_pixels": (int, 50_000_000, "N", "largest picture, width x height"),
    "max_audio_seconds": (float, 3600.0, "S", "longest recording"),
    "max_tokens": (int, 4096, "N", "longest text that a request may ask for"),
    "batch_rows": (int, 256, "N", "most rows that go to the model together"),
    "queue_batches": (int, 3, "N", "batches of 0.1 s that may wait for a model; more requests are refused"),
}
"""Type, default, unit and meaning of each option."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("how much it takes on")
    for name, (kind, usual, unit, meaning) in KNOBS.items():
        shown = f"{usual:,.0f}"
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=kind, default=usual, metavar=unit, help=f"{meaning} ({shown})")
    group.add_argument(
        "--url-host", action="append", default=[], metavar="HOST", help="let requests name files on this host by URL"
    )


def limits(chosen: argparse.Namespace) -> Limits:
    """Return the limits that the user wants.

    Raises:
        UsageError: one of them is nothing.
    """
    from headstart.server.limits import Limits
    from headstart.server.queue.work import Budget
    from headstart.server.requests.inputs import Caps

    for name in KNOBS:
        if not getattr(chosen, name) > 0:
            raise UsageError(
                f"--{name.replace('_', '-')} is {getattr(chosen, name):g}.", allowed="It must be more than 0."
            )
    size = int(chosen.max_body_mb * 1e6)
    caps = Caps(
        characters=chosen.max_characters,
        pixels=chosen.max_pixels,
        audio_seconds=chosen.max_audio_seconds,
        file_bytes=size,
        url_hosts=tuple(chosen.url_host),
        written_tokens=chosen.max_tokens,
    )
    return Limits(
        body_bytes=size,
        rows=chosen.max_rows,
        budget=Budget(rows=chosen.batch_rows),
        queue_batches=chosen.queue_batches,
        caps=caps,
    )
