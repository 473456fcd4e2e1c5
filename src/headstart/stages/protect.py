"""Protect: keys, TLS, logs and the ledger of a server, from what the user says to what the server takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.errors import UsageError
from headstart.ledgers import open_ledger

if TYPE_CHECKING:
    from headstart.server.protection.protected import Protection
    from headstart.server.record.journal import Journal


@contextmanager
def protecting(
    host: str,
    protection: Protection | None = None,
    *,
    ledger: Path | str = "",
    store_inputs: bool = False,
    keep_days: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `server.run.run` that protect it, and a warning for the user as `warning`.

    Args:
        host: the address that the server listens on.
        protection: how it is to be protected; for this machine only and without keys where it is None.
        ledger: where predictions and feedback are kept, such as predictions.sqlite; nowhere where it is empty.
        store_inputs: whether inputs are kept with the predictions.
        keep_days: after how many days predictions are deleted; 0 means never.

    Raises:
        UsageError: a file cannot be used, or others could reach the server without a key.
        ResourceError: a log or the ledger cannot be written.
    """
    from headstart.server.protection.protected import Protection, protected

    with (
        journal_of(ledger, store_inputs, keep_days) as journal,
        protected(protection or Protection(), host, journal=journal) as found,
    ):
        yield {
            "app_options": {"guard": found.guard, "journal": journal},
            "admin_guard": found.admin_guard,
            "grpc_guard": found.grpc_guard,
            "server_options": found.server_options,
            "warning": found.warning,
        }


@contextmanager
def journal_of(ledger: Path | str, store_inputs: bool = False, keep_days: float = 0.0) -> Iterator[Journal | None]:
    """Yield the journal of a ledger, or None for an empty place; what waits is written when the block is left.

    The key of the inputs' HMAC is HEADSTART_HMAC_KEY, or stands in a file beside the ledger, LEDGER.key, which is made
    once. Who has both can find out whether an input that he guesses was sent.

    Raises:
        UsageError: it is not a ledger, or its key cannot be used.
        ResourceError: it cannot be written.
    """
    if not ledger:
        if store_inputs or keep_days:
            raise UsageError(
                "Inputs and predictions are kept in a ledger, and none is given.",
                hint="Add --ledger predictions.sqlite",
            )
        yield None
        return
    from headstart.server.protection.protected import keeping
    from headstart.server.record.records import secret_of

    place = str(ledger)
    secret = secret_of(Path(place.removeprefix("sqlite:") + ".key"))
    with keeping(lambda: open_ledger(place), secret, store_inputs=store_inputs, keep_days=keep_days) as journal:
        yield journal
