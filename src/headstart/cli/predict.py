"""`headstart predict`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from headstart.cli import _pretrained, _table
from headstart.cli.main import console
from headstart.core.errors import DataError, UsageError
from headstart.core.offline import go_offline

HELP = "answer with a fitted model, or with a pretrained one as it is"
EXAMPLE = 'Example: headstart predict models/tickets "My order has not arrived"'
LINES = 64
"""Lines of standard input answered at a time; a pipe that is read by a program gets its answers soon."""
ROWS = 4096


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder, or a pretrained model's reference such as hf:NAME")
    parser.add_argument("input", nargs="+", help="a text, a row as JSON, '-' for lines of standard input, or a table")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="write answers here: .csv, .jsonl, .parquet, .arrow, SQL; or a picture"
    )
    _table.options(parser)
    _pretrained.options(parser)


def run(chosen: argparse.Namespace) -> Any:
    """Answer, and print or write the answers."""
    from headstart.stages.files import is_single_file
    from headstart.stages.model import open_targets
    from headstart.stages.predict import predict
    from headstart.stages.pretrained import is_reference
    from headstart.stages.read import is_table
    from headstart.stages.taught import is_taught

    if is_reference(chosen.bundle) or is_taught(chosen.bundle):
        return _pretrained.run(chosen)
    _pretrained.refuse(chosen)
    if chosen.offline:
        go_offline()
    if len(chosen.input) > 1:
        raise UsageError(f"There are {len(chosen.input)} inputs.", hint="Quote a text, or give a table.")
    chosen.input = chosen.input[0]
    model = open_targets(chosen.bundle, console(chosen))
    if chosen.input == "-":
        return _stream(model, chosen)
    if is_single_file(chosen.input, model.runtime.file_columns):
        return _single(model, {model.runtime.file_columns[0]: chosen.input}, chosen)
    if not is_table(chosen.input):
        return _single(model, _row(chosen.input), chosen)
    if not chosen.out:
        return _print_table(model, chosen)
    options = _table.read_options(chosen)
    count = predict(model, chosen.input, out=chosen.out, options=options, progress=console(chosen))
    if not chosen.json:
        print(f"{count:,} rows answered: {chosen.out}", file=sys.stderr)
    return {"rows": count, "out": chosen.out}


def _single(model: Any, row: Any, chosen: argparse.Namespace) -> dict[str, Any]:
    record = model.predict(row)
    if chosen.out:
        from headstart.stages.read import table_writer

        with table_writer(chosen.out) as writer:
            writer.write({name: [value] for name, value in record.items()})
    elif not chosen.json:
        width = max(map(len, record))
        for name, value in record.items():
            print(f"{name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return dict(record)


def _row(text: str) -> Any:
    """Return a JSON object as a row, anything else as a text."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise DataError(
                f"The row is not JSON: {error}.", hint='Quote it for the shell: \'{"column": "cell"}\''
            ) from error
    return text


def _stream(model: Any, chosen: argparse.Namespace) -> None:
    from headstart.stages.predict import lines

    if chosen.out:
        from headstart.stages.read import table_writer

        with table_writer(chosen.out) as writer:
            for some in lines(sys.stdin, ROWS):
                records = model.predict([_row_of(line) for line in some])
                writer.write({"input": some} | {name: [each[name] for each in records] for name in records[0]})
        return
    written = 0
    for some in lines(sys.stdin, LINES):
        for record in model.predict([_row_of(line) for line in some]):
            # With --json a stream is one array, so that standard output stays one document.
            print(("[\n" if not written else ",\n") if chosen.json else "", end="")
            print(json.dumps(record, ensure_ascii=False), end="" if chosen.json else "\n")
            written += 1
        sys.stdout.flush()
    if chosen.json:
        print("\n]" if written else "[]")


def _row_of(line: str) -> Any:
    if line.lstrip().startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:
            return line
        return row if isinstance(row, dict) else line
    return line


def _print_table(model: Any, chosen: argparse.Namespace) -> None:
    from headstart.stages.files import folder_of
    from headstart.stages.predict import answered
    from headstart.stages.read import open_table

    rows = 512 if model.runtime.file_columns else ROWS
    chunks = open_table(chosen.input, _table.read_options(chosen), rows)
    _table.print_rows(answered(model, chunks, folder_of(chosen.input), console(chosen)), chosen.json)
