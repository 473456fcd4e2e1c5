"""JSON records: one object a line, or one array of objects."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TextIO, final

from headstart.core.errors import DataError
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._cells import as_json, plain
from headstart.sources._files import named, same_columns, shown, text_out
from headstart.sources._text import TextFile

ARRAYS = (".json", ".json.gz")
LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
BLOCK = 1 << 16
LONGEST = 64 << 20
"""Characters that one object in an array may have."""
SPACE = re.compile(r"[ \t\r\n]*")
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = {list: "a list", str: "a text", type(None): "null", bool: "a boolean"}

Record = tuple[int, dict[str, Any]]
"""The line where an object begins, and the object."""


@final
class Jsonl(Source):
    """One JSON object a line (.jsonl, .ndjson), or one array of objects (.json).

    Columns are the keys of all objects; a missing key is a missing cell. Lists stay lists, objects within a
    cell become JSON text, and half a surrogate pair, which no UTF-8 text can hold, becomes U+FFFD.
    """

    reads = ".jsonl, .ndjson and .json files (also .gz)"
    writes = ".jsonl, .ndjson and .json files (also .gz)"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a path that ends in .jsonl, .ndjson or .json."""
        return named(reference, LINES + ARRAYS)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the objects as rows.

        A file of more than one chunk is read twice: keys may appear late, and a broken line is better told at once.

        Raises:
            DataError: a line is not a JSON object.
        """
        text = TextFile.find(reference, options)
        records = _records(text)
        some = list(islice(records, rows))
        columns = _keys(some)
        whole = len(some) < rows
        for _, record in records:
            if not record.keys() <= columns.keys():
                columns |= dict.fromkeys(record)
        if not columns:
            raise DataError(
                f"{shown(reference)} holds no objects, so its columns are not known.",
                allowed="At least one JSON object with a key is needed.",
            )
        if whole:
            yield _table(some, columns)
            return
        records = _records(text)
        while some := list(islice(records, rows)):
            yield _table(some, columns)

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Write UTF-8, one object a line; missing cells, NaN and infinity are null."""
        return _writer(reference)

    def notes(self, reference: Any, options: ReadOptions) -> Mapping[str, str]:
        """Return the encoding."""
        return {"encoding": TextFile.find(reference, options).note()}


def _keys(records: list[Record]) -> dict[str, None]:
    return dict.fromkeys(key for _, record in records for key in record)


def _table(records: list[Record], columns: Mapping[str, None]) -> Table:
    return {name: [plain(record.get(name)) for _, record in records] for name in columns}


def _records(text: TextFile) -> Iterator[Record]:
    """Yield the objects of a file with the lines where they begin."""
    with text.open(newline=None) as file:
        for line, value in (
            _array(text, file) if text.sample.lstrip("\ufeff \t\r\n").startswith("[") else _lines(text, file)
        ):
            if not isinstance(value, dict):
                raise DataError(
                    f"Line {line} of '{text.path}' holds {KINDS.get(type(value), 'a number')}, not a JSON object.",
                    allowed='Every row is an object such as {"text": "Hello", "label": "greeting"}.',
                )
            yield line, value


def _lines(text: TextFile, file: TextIO) -> Iterator[tuple[int, Any]]:
    """Yield the value of every line that is not blank."""
    for number, line in enumerate(file, start=1):
        written = line.strip("\ufeff \t\r\n")
        if not written:
            continue
        try:
            yield number, _whole(json.loads(written), written)
        except RecursionError:
            raise _broken(text, number, "it is nested too deeply") from None
        except ValueError as error:
            raise _broken(text, number, getattr(error, "msg", str(error))) from None


def _array(text: TextFile, file: TextIO) -> Iterator[tuple[int, Any]]:
    """Yield the values of one array, holding one of them at a time."""
    scan = _Scanner(text, file)
    scan.take("[")
    while scan.peek() != "]":
        yield scan.line, scan.value()
        if scan.peek() != "]":
            scan.take(",")
    scan.take("]")
    if scan.peek():
        raise _broken(text, scan.line, "something comes after the end of the array")


@final
class _Scanner:
    """Reads JSON values from a stream; `line` is where it stands."""

    def __init__(self, text: TextFile, file: TextIO) -> None:
        self._text, self._file, self._decoder = text, file, json.JSONDecoder()
        self._buffer, self._at, self.line = "", 0, 1

    def _more(self) -> bool:
        """Read on, keeping what has not been used."""
        rest = self._buffer[self._at :]
        block = self._file.read(max(BLOCK, len(rest))) if len(rest) < LONGEST else ""
        self._buffer, self._at = rest + block, 0
        return bool(block)

    def peek(self) -> str:
        """Return the next character that is no white space, or an empty text at the end."""
        while True:
            end = SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            self.line, self._at = self.line + self._buffer.count("\n", self._at, end), end
            if end < len(self._buffer):
                return self._buffer[end]
            if not self._more():
                return ""

    def take(self, mark: str) -> None:
        """Step over `mark`."""
        found = self.peek()
        if found != mark:
            raise _broken(
                self._text, self.line, f"expected '{mark}', found {found!r}" if found else "the array is not closed"
            )
        self._at += 1

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
                break
            except (ValueError, RecursionError) as error:
                if not self._more():
                    line = self.line + self._buffer.count("\n", 0, getattr(error, "pos", 0))
                    raise _broken(self._text, line, getattr(error, "msg", str(error))) from None
        written = self._buffer[self._at : end]
        self.line, self._at = self.line + written.count("\n"), end
        return _whole(value, written)


def _broken(text: TextFile, line: int, problem: str) -> DataError:
    return DataError(
        f"Line {line} of '{text.path}' is not JSON: {problem}.",
        allowed="One JSON object a line, or one array of objects.",
        hint="Repair or remove that line.",
    )


def _whole(value: Any, written: str) -> Any:
    """Return a JSON value without half surrogate pairs; `written` is its JSON."""
    return _mended(value) if "\\ud" in written or "\\uD" in written else value


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(each) for each in value]
    return {_mended(key): _mended(each) for key, each in value.items()} if isinstance(value, dict) else value


@final
class _JsonWriter(TableWriter):
    def __init__(self, file: TextIO, array: bool) -> None:
        self._file, self._rows = file, 0
        self._columns: list[str] | None = None
        self._open, self._between, self._close = ("[\n", ",\n", "\n]\n") if array else ("", "\n", "\n")

    def write(self, table: Table) -> None:
        """Append rows."""
        self._columns = same_columns(self._columns, table)
        for cells in zip(*table.values(), strict=True):
            record = {name: as_json(cell) for name, cell in zip(table, cells, strict=True)}
            self._file.write(self._between if self._rows else self._open)
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False))
            self._rows += 1

    def end(self) -> None:
        """Write what comes after the last object."""
        self._file.write(self._close if self._rows else self._open and "[]\n")


@contextlib.contextmanager
def _writer(reference: Any) -> Iterator[TableWriter]:
    with text_out(reference) as file:
        writer = _JsonWriter(file, named(reference, ARRAYS))
        yield writer
        writer.end()
