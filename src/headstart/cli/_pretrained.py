"""`headstart predict` with a pretrained model as it is: its options, and what is printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.cli import _table
from headstart.cli.main import console
from headstart.core.errors import UsageError

OPTIONS: dict[str, dict[str, Any]] = {
    "top": {"type": int, "metavar": "N", "help": "how many answers (classes, tokens)"},
    "labels": {"metavar": "A,B,C", "help": "the classes to choose from, in place of its own (zero_shot)"},
    "template": {"metavar": "TEXT", "help": "zero_shot: what is said of a class, such as 'It is about {}.'"},
    "several": {"action": "store_true", "default": None, "help": "zero_shot: judge each class on its own"},
    "context": {"metavar": "TEXT", "help": "answer: the text that holds the answer, or a file of it"},
    "threshold": {"type": float, "metavar": "SHARE", "help": "detect, speech: least score"},
    "seed": {"type": int, "metavar": "N", "help": "generate, imagine: makes the result repeatable"},
    "max_tokens": {"type": int, "metavar": "N", "help": "generate: longest answer"},
    "temperature": {"type": float, "metavar": "T", "help": "generate: 0 takes the likeliest token each time"},
    "top_p": {"type": float, "metavar": "SHARE", "help": "generate: draw among the likeliest tokens of this share"},
    "stop": {"action": "append", "metavar": "TEXT", "help": "generate: end before this text; may be repeated"},
    "chat": {"action": "store_true", "default": None, "help": "generate: use the model's chat template"},
    "system": {"metavar": "TEXT", "help": "generate: what the assistant is told first (with --chat)"},
    "language": {"metavar": "CODE", "help": "transcribe: the language spoken, such as en"},
    "timestamps": {"action": "store_true", "default": None, "help": "transcribe: say when each part was spoken"},
    "beams": {"type": int, "metavar": "N", "help": "transcribe: look for the likeliest letters among N beginnings"},
    "vad": {"metavar": "REF", "help": "transcribe: cut silence out with this voice detector, such as local:vad.onnx"},
    "count": {"type": int, "metavar": "N", "help": "imagine: how many pictures, drawn as a grid"},
    "steps": {"type": int, "metavar": "N", "help": "imagine: denoising steps"},
    "guidance": {"type": float, "metavar": "G", "help": "imagine: how closely to follow the text"},
    "truncation": {"type": float, "metavar": "SHARE", "help": "imagine: StyleGAN2's distance from the average picture"},
}
"""Each task takes those that it knows (`Pipeline.options`) and refuses the others."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of pretrained models as they are."""
    group = parser.add_argument_group("a pretrained model as it is (headstart predict hub:name INPUT …)")
    group.add_argument("--task", metavar="NAME", help="fill_mask, classify, detect …; what it is made for otherwise")
    group.add_argument("--weights", metavar="FILE", help="put this file's weights into the named architecture")
    group.add_argument("--column", metavar="NAME", help="the column of a table that is read; found out otherwise")
    group.add_argument("--stream", action="store_true", help="print the answer piece by piece, as it comes")
    group.add_argument("--offline", action="store_true", help="use what is on this machine; open no socket")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run code that a model brings with it, after listing its files"
    )
    for name, how in OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", **how)


def _given(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in OPTIONS if getattr(chosen, name) is not None}


def refuse(chosen: argparse.Namespace) -> None:
    """Refuse options that a fitted model has no use for.

    Raises:
        UsageError: one of them is given.
    """
    wrong = [*_given(chosen), *(name for name in ("task", "weights", "column", "stream") if getattr(chosen, name))]
    if wrong:
        raise UsageError(
            f"--{wrong[0].replace('_', '-')} is for pretrained models, and '{chosen.bundle}' is a fitted one.",
            allowed="A pretrained model is named hub:name.",
        )


def run(chosen: argparse.Namespace) -> Any:
    """Answer each input, and print or write the answers."""
    from headstart.core import offline, trust
    from headstart.stages.answer import is_rows

    if chosen.offline:
        offline.go_offline()
    if chosen.trust_remote_code:
        trust.trust_remote_code()
    model = _opened(chosen)
    given = _given(chosen)
    if given.get("context"):
        given["context"] = _text(given["context"])
    if len(chosen.input) == 1 and is_rows(chosen.input[0], model.network.backbone.modality):
        return _table_answers(model, chosen, given)
    if chosen.column:
        raise UsageError("--column names a column of a table, and no table is given.", hint="Leave --column out.")
    inputs = _lines() if chosen.input == ["-"] else chosen.input
    if chosen.stream:
        return _stream(model, inputs, given, chosen.json)
    records = model.predict(inputs, **given)
    if chosen.out:
        model.write(records, inputs, chosen.out)
        print(f"wrote {chosen.out}", file=sys.stderr)
    plain = [{name: value for name, value in each.items() if not name.startswith("_")} for each in records]
    if not chosen.json:
        _print(model, inputs, records)
        if model.pipeline.left_out and not chosen.out:
            print(model.pipeline.left_out, file=sys.stderr)
    return plain[0] if len(plain) == 1 else plain


def _opened(chosen: argparse.Namespace) -> Any:
    """Return the model: a pretrained one as it is, or one that was tuned and knows its task."""
    from headstart.stages.pretrained import pretrained
    from headstart.stages.taught import is_taught, open_taught

    task = chosen.task or ("zero_shot" if chosen.labels else "")
    if not is_taught(chosen.bundle):
        return pretrained(chosen.bundle, task=task, weights=chosen.weights or "", progress=console(chosen))
    model = open_taught(chosen.bundle, console(chosen))
    if chosen.weights or task.replace("-", "_") not in ("", model.task):
        wrong = "--weights" if chosen.weights else f"--task {task}"
        raise UsageError(
            f"{wrong} is for pretrained models, and '{chosen.bundle}' is a fitted one.",
            allowed=f"Its task is {model.task}.",
            hint="Leave it out.",
        )
    return model


def _print(model: Any, inputs: Sequence[str], records: Sequence[Mapping[str, Any]]) -> None:
    for number, record in enumerate(records):
        if len(records) > 1:
            print(("\n" if number else "") + inputs[number])
        print(model.pipeline.show(record))


def _table_answers(model: Any, chosen: argparse.Namespace, given: dict[str, Any]) -> Any:
    if chosen.stream:
        raise UsageError("A table is not streamed.", hint="Leave --stream out; answers are printed as they come.")
    options, progress = _table.read_options(chosen), console(chosen)
    if chosen.out:
        count = model.predict_table(
            chosen.input[0], out=chosen.out, column=chosen.column or "", read=options, progress=progress, **given
        )
        print(f"{count:,} rows answered: {chosen.out}", file=sys.stderr)
        return {"rows": count, "out": chosen.out}
    answers = model.answers(given)
    _table.print_rows(answers.chunks(chosen.input[0], chosen.column or "", options), chosen.json)
    if answers.unread:
        progress.say(answers.told())
    return None


def _lines() -> list[str]:
    found = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if not found:
        raise UsageError("Standard input is empty.", hint="Give one input on each line.")
    return found


def _text(given: str) -> str:
    """Return the text of a file of that name, else the words themselves."""
    path = Path(given).expanduser()
    try:
        if not path.is_file():
            return given
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a long text is no file name
        return given


def _stream(model: Any, inputs: list[str], given: dict[str, Any], silent: bool) -> Any:
    if len(inputs) != 1:
        raise UsageError("Only one input can be streamed at a time.")
    parts = []
    for part in model.stream(inputs[0], **given):
        parts.append(part)
        if not silent:
            print(part, end="", flush=True)
    if not silent:
        print()
    return {"text": "".join(parts)}
