"""`headstart keys`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

HELP = "make, list, replace and revoke the API keys of a server"
EXAMPLE = "Example: headstart keys add keys.json shop --scope predict --scope feedback --expires 90d"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    kinds = parser.add_subparsers(dest="what", metavar="add|list|rotate|revoke", required=True)
    add = kinds.add_parser("add", help="make a key and print it, this once")
    shown = kinds.add_parser("list", help="show the keys, without what is secret")
    rotate = kinds.add_parser("rotate", help="make a new key, and let the old one expire")
    revoke = kinds.add_parser("revoke", help="remove a key, at once")
    for each in (add, shown, rotate, revoke):
        each.add_argument("file", help="the file of keys, given to the server with --keys")
        if each is not shown:
            each.add_argument("name", help="whose key it is")
        each.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document on standard output"
        )
    add.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="what it allows: predict (default), feedback, metrics or admin; may be given several times",
    )
    add.add_argument(
        "--model", action="append", metavar="NAME", default=[], help="a model that it may ask (default: all)"
    )
    add.add_argument("--expires", default="", help="a span such as 90d, or a date such as 2027-01-31 (default: never)")
    add.add_argument("--requests-per-second", type=float, default=0.0, help="how often it may ask (default: no limit)")
    add.add_argument("--rows-per-second", type=float, default=0.0, help="how many rows it may ask (default: no limit)")
    add.add_argument("--burst", type=float, default=2.0, help="seconds' worth of either at once (default: 2)")
    rotate.add_argument(
        "--grace", default="1d", help="how long the old one stays valid, such as 12h or 0 (default: 1d)"
    )


def run(chosen: argparse.Namespace) -> Any:
    """Do it; a new key is all that stands on standard output, so that it can be piped to where it is kept."""
    from headstart.stages import keys

    if chosen.what == "list":
        return _listed(keys.list_keys(chosen.file), chosen.json)
    if chosen.what == "revoke":
        gone = keys.revoke_key(chosen.file, chosen.name)
        if not chosen.json:
            print(f"{gone} revoked; a running server notices within a second.")
        return {"revoked": gone}
    if chosen.what == "rotate":
        made = keys.rotate_key(chosen.file, chosen.name, grace=chosen.grace)
    else:
        made = keys.add_key(
            chosen.file,
            chosen.name,
            scopes=chosen.scope or ("predict",),
            models=chosen.model,
            expires=chosen.expires,
            requests_per_second=chosen.requests_per_second,
            rows_per_second=chosen.rows_per_second,
            burst=chosen.burst,
        )
    if not chosen.json:
        print("This key is shown once; only its hash is kept.", file=sys.stderr)
        print(made["key"])
    return made


def _listed(found: list[dict[str, Any]], as_json: bool) -> list[dict[str, Any]]:
    if not as_json:
        for each in found:
            until = f"until {each['expires']}" if each["valid"] else "expired"
            print(
                f"{each['name']:20} {each['id']}  {','.join(each['scopes']):24}"
                f" {','.join(each['models']) or 'all models':20} {until if each['expires'] else 'for ever'}"
            )
    return found
