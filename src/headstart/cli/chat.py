"""`headstart chat`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from headstart.cli import _table
from headstart.cli.main import Parser, console
from headstart.core.offline import go_offline

HELP = "answer questions from a FAQ file, with the sources shown"
EXAMPLE = 'Example: headstart chat faq.csv "How do I reset my password?"'
ENDS = ("exit", "quit", ":q")
SHOWN = 300
"""Characters of a source's answer that are printed."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    if isinstance(parser, Parser):
        parser.mixed = True
    parser.add_argument("faq", help="a table of questions and answers, Markdown with headings, text, or a folder")
    parser.add_argument("question", nargs="?", help="what is asked; a conversation begins without it")
    parser.add_argument("--generator", default="", metavar="REF", help="a model that writes the answer, as hf:NAME")
    parser.add_argument(
        "--backbone", default="auto", metavar="REF", help="the model that embeds; 'none' compares words alone"
    )
    parser.add_argument("--input", default="", metavar="COLUMN", help="the column of questions; found out otherwise")
    parser.add_argument("--target", default="", metavar="COLUMN", help="the column of answers; found out otherwise")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="sources that are shown (default: 3)")
    parser.add_argument(
        "--threshold", type=float, metavar="SHARE", help="confidence below which it does not know; found out otherwise"
    )
    parser.add_argument("--offline", action="store_true", help="use what is on this machine; open no socket")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> Any:
    """Answer one question, each line of standard input, or a person on a terminal."""
    from headstart.stages.chat import chat

    if chosen.offline:
        go_offline()
    bot = chat(
        chosen.faq,
        generator=chosen.generator,
        backbone=chosen.backbone,
        input=chosen.input,
        target=chosen.target,
        top=chosen.top,
        threshold=chosen.threshold,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if chosen.question is not None:
        record = bot.ask(chosen.question)
        if not chosen.json:
            _print(record)
        return record
    first = True
    for question in _questions(sys.stdin.isatty()):
        if chosen.json:
            # A stream is one array, so that standard output stays one document.
            print(
                "[\n" if first else ",\n", json.dumps(bot.ask(question), ensure_ascii=False), sep="", end="", flush=True
            )
        else:
            heard = bot.ask(question, lambda part: print(part, end="", flush=True))
            _print(heard, spoken=heard["written"])
            print(flush=True)
        first = False
    if chosen.json:
        print("[]" if first else "\n]")
    return None


def _questions(asking: bool) -> Iterator[str]:
    """Yield what a person asks until they leave, or the lines of standard input."""
    if asking:
        print("Ask a question; an empty line or Ctrl-D ends it.", file=sys.stderr)
    while True:
        if asking:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or (asking and line.strip().lower() in ("", *ENDS)):
            return
        if line.strip():
            yield line.strip()


def _print(record: dict[str, Any], spoken: bool = False) -> None:
    """Print an answer and where it comes from; of a written one that was heard already, only the latter."""
    print("" if spoken else record["answer"])
    print(f"  confidence {record['confidence']:.2f}" + ("" if record["known"] else "; the nearest entries:"))
    for number, each in enumerate(record["sources"], start=1):
        print(f"  [{number}] {each['question']} ({each['place']})")
        if not record["known"] and each["answer"] != each["question"]:
            text = " ".join(each["answer"].split())
            print(f"      {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}")
