"""Options of `headstart serve` that say who may reach it, and what is written down."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.server.protection.protected import Protection


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    safe = parser.add_argument_group("who may ask")
    safe.add_argument("--keys", default="", metavar="FILE", help="ask for API keys: those in a file of headstart keys")
    safe.add_argument("--insecure", action="store_true", help="let other machines ask without a key")
    safe.add_argument("--tls-cert", default="", metavar="FILE", help="speak HTTPS: the certificate, as PEM")
    safe.add_argument("--tls-key", default="", metavar="FILE", help="its private key, as PEM")
    safe.add_argument(
        "--cors-origin", action="append", default=[], metavar="URL", help="let browsers ask from pages of this origin"
    )
    kept = parser.add_argument_group("what is written down")
    kept.add_argument("--access-log", default="", metavar="FILE", help="a JSON line for each request; - is stderr")
    kept.add_argument("--audit-log", default="", metavar="FILE", help="a JSON line for each change by an operator")
    kept.add_argument("--ledger", default="", metavar="FILE", help="keep predictions and feedback: predictions.sqlite")
    kept.add_argument("--store-inputs", action="store_true", help="keep the inputs, too; without it, a MAC of each")
    kept.add_argument("--keep-days", type=float, default=0.0, metavar="N", help="delete older predictions")


def protection(chosen: argparse.Namespace) -> Protection:
    """Return how the user wants the server to be protected."""
    from headstart.server.protection.protected import Protection

    return Protection(
        keys=chosen.keys,
        insecure=chosen.insecure,
        tls_cert=chosen.tls_cert,
        tls_key=chosen.tls_key,
        cors_origins=chosen.cors_origin,
        access_log=chosen.access_log,
        audit_log=chosen.audit_log,
    )


def ledger(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what of the predictions is to be kept."""
    return {"ledger": chosen.ledger, "store_inputs": chosen.store_inputs, "keep_days": chosen.keep_days}
