"""Delimited text: .csv and .tsv files, plain or gzipped."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, TextIO, final

from headstart.core.errors import DataError, UsageError, listed
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._cells import as_flat_text, check_names
from headstart.sources._files import named, same_columns, shown, text_out
from headstart.sources._text import TextFile

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABBED = (".tsv", ".tsv.gz")
DELIMITERS = (",", ";", "\t", "|")
NAMES = {"\t": "tab", "tab": "\t", "\\t": "\t"}
NO_DELIMITER = "\uffff"
"""Stands for: one column. Unicode keeps this code out of texts."""
LONGEST = 10 << 20
"""Characters that one cell may have."""
STEP = 256
"""Rows taken at once."""
CHUNK_BYTES = 64 << 20
"""Bytes from which a chunk is handed on though it has fewer rows than asked for."""


@final
@dataclass(frozen=True)
class Layout:
    """What has been found out about a delimited file."""

    text: TextFile
    delimiter: str
    header: list[str]
    unnamed: list[str]

    @contextlib.contextmanager
    def records(self) -> Iterator[tuple[Any, TextIO]]:
        """Open the file as a csv.reader, at its first line."""
        csv.field_size_limit(LONGEST)
        with self.text.open(newline="") as lines:
            yield csv.reader(lines, delimiter=self.delimiter, strict=True), lines


@final
class Csv(Source):
    """Rows of cells between commas, semicolons, tabs or bars; the first row names the columns; cells stay text."""

    reads = ".csv and .tsv files (also .gz)"
    writes = ".csv and .tsv files (also .gz)"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a path that ends in .csv or .tsv."""
        return named(reference, SUFFIXES)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the rows below the header, skipping blank lines.

        Raises:
            DataError: a line has too many or too few cells, a quote that is never closed, or broken text.
        """
        layout = _layout(reference, options)
        first = True
        with layout.records() as (reader, lines):
            try:
                _skip_header(reader)
                for batch in _batches(layout, reader, lines, rows):
                    if batch or first:
                        yield dict(zip(layout.header, _columns(batch, len(layout.header)), strict=True))
                    first = False
            except csv.Error as error:
                _raise_misquoted(layout, str(error))
        if first:
            yield {name: [] for name in layout.header}

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Write UTF-8: tabs for .tsv, else commas; missing cells are empty, lists are joined by `|`."""
        return _writer(reference)

    def notes(self, reference: Any, options: ReadOptions) -> Mapping[str, str]:
        """Return encoding, delimiter and names given to columns that had none."""
        layout = _layout(reference, options)
        notes = {"encoding": layout.text.note()}
        if layout.delimiter != NO_DELIMITER:
            notes["delimiter"] = NAMES.get(layout.delimiter, f"'{layout.delimiter}'")
        if layout.unnamed:
            notes["columns without a name"] = f"called {listed(layout.unnamed)}"
        return notes


def _layout(reference: Any, options: ReadOptions) -> Layout:
    """Find out encoding, delimiter and header."""
    csv.field_size_limit(LONGEST)
    text = TextFile.find(reference, options)
    if not text.sample.strip("\ufeff \t\r\n") and text.whole:
        raise DataError(f"{shown(reference)} is empty.", allowed="The first line must name the columns.")
    delimiter = _given(options.delimiter) or _find_delimiter(text, named(reference, TABBED))
    layout = Layout(text, delimiter, [], [])
    with layout.records() as (reader, _):
        try:
            raw = _skip_header(reader)
        except csv.Error as error:
            _raise_misquoted(layout, str(error))
    names = [name.strip("\ufeff \t\r\n\u00a0") for name in raw]
    unnamed = [f"column_{place}" for place, name in enumerate(names, start=1) if not name]
    names = [name or f"column_{place}" for place, name in enumerate(names, start=1)]
    return Layout(text, delimiter, check_names(names, shown(reference)), unnamed)


def _given(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    mark = NAMES.get(delimiter, delimiter) if delimiter != "\t" else delimiter
    if len(mark) != 1 or mark in '"\r\n':
        raise UsageError(
            f"'{delimiter}' cannot be a delimiter.", allowed="One character such as ',' ';' '|', or 'tab'."
        )
    return mark


def _find_delimiter(text: TextFile, tabbed: bool) -> str:
    """Return the delimiter under which most of the first records are as wide as the header."""
    best, found = (0.0, 1), NO_DELIMITER
    for mark in sorted(DELIMITERS, key=lambda each: tabbed and each != "\t"):
        records = list(islice(filter(None, _sampled(text, mark)), 200))
        if records and len(records[0]) > 1:
            width = len(records[0])
            score = (sum(len(record) == width for record in records) / len(records), width)
            if score > best:
                best, found = score, mark
    return found


def _sampled(text: TextFile, mark: str) -> Iterator[list[str]]:
    """Yield the records of the sample, without the last one where the sample ends within it."""
    reader = csv.reader(io.StringIO(text.sample, newline=""), delimiter=mark)
    before: list[str] | None = None
    count = 0
    for record in reader:
        if before is not None:
            yield before
        before, count = record, count + 1
    if before is not None and (text.whole or count == 1):
        yield before


def _skip_header(reader: Any) -> list[str]:
    """Read up to and including the first row that is not blank."""
    return next((row for row in reader if any(cell.strip("\ufeff \t\r\n") for cell in row)), [])


def _batches(layout: Layout, reader: Any, lines: TextIO, rows: int) -> Iterator[list[list[str]]]:
    """Yield whole rows, at most `rows` at a time and fewer where cells are huge."""
    width = len(layout.header)
    batch: list[list[str]] = []
    began = lines.buffer.tell()
    while True:
        line = reader.line_num + 1
        step = list(islice(reader, min(STEP, rows - len(batch))))
        if not step:
            break
        batch += step if set(map(len, step)) == {width} else _checked(layout, step, line)
        if len(batch) >= rows or lines.buffer.tell() - began > CHUNK_BYTES:
            yield batch
            batch, began = [], lines.buffer.tell()
    if batch:
        yield batch


def _checked(layout: Layout, step: list[list[str]], line: int) -> list[list[str]]:
    """Return the rows that are not blank.

    Raises:
        DataError: a row is too long or too short; `line` is the first row's line.
    """
    width, kept = len(layout.header), []
    for row in step:
        if len(row) == width:
            kept.append(row)
        elif any(cell.strip() for cell in row):
            more = len(row) > width
            mark = NAMES.get(layout.delimiter, layout.delimiter)
            raise DataError(
                f"Line {line} of '{layout.text.path}' has {len(row)} cell{'s' * (len(row) != 1)}; "
                f"the header has {width}.",
                allowed=f"Columns: {listed(layout.header)}.",
                hint=f"Put cells that hold a {mark!r} into double quotes, or name another --delimiter."
                if more
                else "Add the missing cells; an empty cell still needs its delimiter.",
            )
        line += 1 + sum(cell.count("\n") + cell.count("\r") - cell.count("\r\n") for cell in row)
    return kept


def _columns(batch: list[list[str]], width: int) -> list[list[str]]:
    return [list(cells) for cells in zip(*batch, strict=True)] if batch else [[] for _ in range(width)]


def _raise_misquoted(layout: Layout, problem: str) -> NoReturn:
    """Raise DataError with the line in which the quote opens that csv.reader stumbled over; reads the file again."""
    start = 1
    with layout.records() as (reader, _):
        with contextlib.suppress(csv.Error):
            for _row in reader:
                start = reader.line_num + 1
        end = reader.line_num
    with layout.text.open(newline="") as lines:
        record = "".join(islice(lines, start - 1, end))
    mark = re.escape(layout.delimiter)
    opened = 0
    for quoted in re.finditer(rf'(?:^|(?<=[{mark}\r\n]))"[^"]*+(?:""[^"]*+)*+"?', record):
        opened = quoted.start()
        if record[quoted.end() : quoted.end() + 1] not in (layout.delimiter, "\r", "\n", ""):
            break
    line = start + len(re.findall(r"\r\n|\r|\n", record[:opened]))
    path = layout.text.path
    if "limit" in problem:
        raise DataError(
            f"The cell that begins in line {line} of '{path}' is longer than {LONGEST >> 20} MB.",
            allowed=f"A cell may have {LONGEST >> 20} MB.",
            hint="Is its closing quote missing?",
        )
    if "unexpected end" in problem:
        raise DataError(
            f"The quote that opens in line {line} of '{path}' is never closed.",
            hint='Close it, or write it twice ("") if it belongs to the text.',
        )
    raise DataError(
        f"The quoted cell that opens in line {line} of '{path}' goes on after its closing quote in line {end}.",
        allowed="After a closing quote only a delimiter or the end of the line may come.",
        hint='Write quotes inside a cell twice: "".',
    )


@final
class _CsvWriter(TableWriter):
    def __init__(self, text: TextIO, delimiter: str) -> None:
        self._columns: list[str] | None = None
        self._sparing = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        self._quoting = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, table: Table) -> None:
        """Append rows."""
        columns = same_columns(self._columns, table)
        cells = [[as_flat_text(cell) for cell in column] for column in table.values()]
        # The sparing writer leaves a lone carriage return bare, and one column has no delimiter to go by.
        bare = len(columns) == 1 or any("\r" in "".join(column) for column in [columns, *cells])
        out = self._quoting if bare else self._sparing
        if self._columns is None:
            out.writerow(columns)
            self._columns = columns
        out.writerows(zip(*cells, strict=True))


@contextlib.contextmanager
def _writer(reference: Any) -> Iterator[TableWriter]:
    with text_out(reference) as text:
        yield _CsvWriter(text, "\t" if named(reference, TABBED) else ",")
