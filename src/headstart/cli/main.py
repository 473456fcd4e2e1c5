"""Parse the command line, call a verb, and turn errors into sentences and exit codes."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, NoReturn

from headstart.core import VERSION
from headstart.core.errors import HeadstartError, UsageError, nearest
from headstart.core.threads import process_rank

COMMANDS = (
    "demo",
    "choose",
    "fit",
    "evaluate",
    "predict",
    "label-next",
    "chat",
    "serve",
    "rollout",
    "compress",
    "benchmark",
    "keys",
    "show",
    "models",
    "edit",
    "push",
)
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError instead of leaving the process."""

    mixed = False
    """Whether options may stand between a command's positional arguments of which some may be left out."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, taking the positional arguments last where the command is `mixed`."""
        if not self.mixed:
            return super().parse_known_args(args, namespace)
        self.mixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixed = True

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", hint=f"See: {self.prog} --help")


def parser(only: str = "") -> Parser:
    """Return the parser; `only` names the command whose options are wanted, which saves making the others."""
    top = Parser(
        prog="headstart",
        description="Adapt a pretrained model to a small table, prove that it is worth using, and serve it.",
        epilog="Begin with: headstart demo",
    )
    top.add_argument("--version", action="version", version=f"headstart {VERSION}")
    kinds = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"headstart.cli.{name.replace('-', '_')}")
        made = kinds.add_parser(name, help=command.HELP, description=command.HELP, epilog=command.EXAMPLE)
        if not only or only == name:
            command.options(made)
            made.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # NumPy's threads wait by spinning, 2^26 cycles after each product, on the cores on which networks run: small
    # batches took twice as long. It is read when NumPy is imported.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if not process_rank():
        return _main(given)
    # The first process of several speaks for all of them.
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing):
        return _main(given)


def _main(given: Sequence[str]) -> int:
    as_json = "--json" in given
    try:
        return _run(given)
    except HeadstartError as error:
        return _fail(error, as_json)
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was half-written.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except MemoryError:
        return _fail(HeadstartError("The machine has too little memory for this.", hint="Give fewer rows."), as_json)
    except Exception as error:
        if os.environ.get("HEADSTART_TRACEBACK"):
            raise
        told = HeadstartError(
            f"This is a bug in headstart: {type(error).__name__}: {error}.",
            hint="To see where, run it again with HEADSTART_TRACEBACK=1, and report it with what that prints.",
        )
        return _fail(told, as_json)


def _run(given: Sequence[str]) -> int:
    command = next((each for each in given if not each.startswith("-")), "")
    if command and command not in COMMANDS:
        raise UsageError(
            f"There is no command '{command}'.",
            allowed=f"Commands: {', '.join(COMMANDS)}.",
            hint=nearest(command, COMMANDS),
        )
    chosen, left = parser(command).parse_known_args(given)
    if left:
        raise _not_known(command, left)
    # Killing a process politely should clean up just as Ctrl-C does; `serve` has its own way.
    if chosen.command != "serve":
        signal.signal(signal.SIGTERM, _interrupt)
    result = importlib.import_module(f"headstart.cli.{chosen.command.replace('-', '_')}").run(chosen)
    if chosen.json and result is not None:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
    sys.stdout.flush()
    return 0


def _not_known(command: str, left: Sequence[str]) -> UsageError:
    """Return the error for arguments that a command does not take, with the option that was probably meant."""
    kinds = next(each.choices for each in parser(command)._actions if isinstance(each.choices, dict))
    options = [flag for action in kinds[command]._actions for flag in action.option_strings if flag.startswith("--")]
    flag = next((each.partition("=")[0] for each in left if each.startswith("--")), "")
    meant = nearest(flag, options) if flag else ""
    return UsageError(
        f"'headstart {command}' does not take {' '.join(left)}.", hint=meant or f"See: headstart {command} --help"
    )


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(error: HeadstartError, as_json: bool) -> int:
    if as_json:
        told = {"problem": error.problem, "allowed": error.allowed, "hint": error.hint, "kind": type(error).__name__}
        print(json.dumps({"error": told}, indent=2, ensure_ascii=False))
    print(f"headstart: {error.problem}", *filter(None, [error.allowed, error.hint]), sep="\n  ", file=sys.stderr)
    return error.exit_code


def console(chosen: argparse.Namespace) -> Any:
    """Return what long work reports to: standard error, or nothing with --quiet."""
    from headstart.core.progress import Console, Quiet

    return Quiet() if getattr(chosen, "quiet", False) or process_rank() else Console()
