"""`headstart rollout`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.core.errors import UsageError

HELP = "change what a running server serves: load, try out, promote, roll back"
EXAMPLE = (
    "Example: headstart rollout canary tickets models/tickets-2 --weight 0.1\n"
    "A server with --keys asks for a key of the scope 'admin', which is taken from HEADSTART_API_KEY."
)
VERBS = {
    "status": "what is served (no NAME needed)",
    "load": "NAME PATH: load a version, which takes over once it is warm",
    "canary": "NAME PATH: load a version that answers a share of the requests (--weight)",
    "shadow": "NAME PATH: load a version that is asked too, and whose answers are only compared",
    "promote": "NAME: let the canary or shadow take over",
    "rollback": "NAME: take canary and shadow away, or go back to the version before",
    "unload": "NAME [VERSION]: take a model or a version away",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{HELP}\n\n" + "\n".join(f"  {verb:<9} {told}" for verb, told in VERBS.items())
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the model")
    parser.add_argument("path", nargs="?", default="", metavar="PATH", help="a bundle's folder, or a reference")
    parser.add_argument("--weight", type=float, metavar="SHARE", help="canary: its share of the requests, above 0 to 1")
    parser.add_argument(
        "--admin", default="http://127.0.0.1:8001", metavar="URL", help="the admin API (default: %(default)s)"
    )


def run(chosen: argparse.Namespace) -> Any:
    """Ask the admin API, and tell what it answered."""
    from headstart.stages import rollout

    _check(chosen)
    name, path, admin = chosen.name, chosen.path, chosen.admin
    if chosen.verb == "status":
        found = rollout.status(admin=admin)
        if not chosen.json:
            _show(found)
        return found
    if chosen.verb in ("load", "canary", "shadow"):
        told = rollout.load(name, path, weight=chosen.weight, shadow=chosen.verb == "shadow", admin=admin)
    elif chosen.verb == "unload":
        told = rollout.unload(name, path, admin=admin)
    else:
        told = {"promote": rollout.promote, "rollback": rollout.rollback}[chosen.verb](name, admin=admin)
    if not chosen.json:
        print(", ".join(f"{key} {value}" for key, value in told.items()))
    return told


def _check(chosen: argparse.Namespace) -> None:
    verb = chosen.verb
    if verb != "status" and not chosen.name:
        raise UsageError(f"'{verb}' needs a model's name.", hint="See: headstart rollout status")
    if verb in ("load", "canary", "shadow") and not chosen.path:
        raise UsageError(f"'{verb}' needs a bundle's folder.", hint=f"headstart rollout {verb} {chosen.name} PATH")
    if verb == "canary" and chosen.weight is None:
        raise UsageError("A canary needs its share of the requests.", hint="--weight 0.1")
    if verb != "canary" and chosen.weight is not None:
        raise UsageError(f"--weight is for canaries, not for '{verb}'.")


def _show(models: list[dict[str, Any]]) -> None:
    if not models:
        print("No model is served.")
    for model in models:
        print(model["name"])
        for each in model["versions"]:
            share = f"{each['weight']:.0%}" if each["role"] in ("live", "canary") else ""
            print(f"  {each['version']:>3}  {each['role']:<8}  {share:>5}  {each['path']}")
