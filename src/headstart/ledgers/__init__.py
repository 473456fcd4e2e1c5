"""Where records of runs, predictions, labels and decisions are kept, one file each."""

from headstart.core.errors import UsageError
from headstart.core.ledger import Ledger
from headstart.core.registry import Registry

registry = Registry(__name__, Ledger)


def open_ledger(place: str) -> Ledger:
    """Open the ledger at a path or URL, making it where there is none.

    Raises:
        UsageError: no kind of ledger claims the place, or what is there is not one.
        ResourceError: the disk is full, or it cannot be reached now.
    """
    for kind in registry.all().values():
        if kind.claims(place):
            return kind.open(place)
    raise UsageError(f"'{place}' does not name a ledger.", allowed="Ledgers are files such as predictions.sqlite.")
