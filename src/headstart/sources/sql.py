"""Tables and queries of a database that SQLAlchemy knows."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, final

from headstart.core.dataset import table_rows
from headstart.core.errors import DataError, MissingExtra, UsageError, listed, nearest
from headstart.core.registry import require
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._cells import as_flat_text, check_names, plain
from headstart.sources._files import destination, existing, same_columns, shown

REFERENCE = re.compile(
    r"(?P<url>[a-z][a-z0-9_]*(?:\+[a-z0-9_]+)?://(?:\[[^\]]*\]|(?!::).)*)(?:::(?P<what>.*))?", re.DOTALL
)
ELSEWHERE = ("http", "https", "ftp", "file", "s3", "gs", "hdfs", "mailto")
QUERY = re.compile(r"\s*(?:select|with)\b", re.IGNORECASE)
FORM = "Write URL::TABLE or URL::SELECT …, such as sqlite:///tickets.db::tickets."


@final
@dataclass(frozen=True)
class Place:
    """A database and what is meant in it: a table's name, or a query."""

    url: Any
    what: str

    def __str__(self) -> str:
        return f"'{self.url.render_as_string(hide_password=True)}'"


@final
class Sql(Source):
    """A table or a query: `URL::TABLE` or `URL::SELECT …`, where URL is SQLAlchemy's.

    A query cannot change anything: it is never committed. Passwords do not appear in messages.
    """

    reads = "SQL as URL::TABLE or URL::SELECT …"
    writes = "new SQL tables as URL::TABLE"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a database's URL."""
        match = REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        return match is not None and reference.partition(":")[0] not in ELSEWHERE

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the rows, streamed by the database's cursor.

        Raises:
            DataError: there is no such table, or the database refuses.
        """
        alchemy, place = _place(reference)
        if place.url.get_backend_name() == "sqlite" and _file(place):
            existing(_file(place))
        with _connected(alchemy, place) as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=rows, no_parameters=True)
            if QUERY.match(place.what):
                result = streamed.exec_driver_sql(place.what)
            else:
                result = streamed.execute(
                    alchemy.select(alchemy.text("*")).select_from(_table(alchemy, connection, place))
                )
            names = check_names(result.keys(), str(place))
            empty = True
            for part in result.partitions(rows):
                yield {
                    name: [plain(c) for c in cells] for name, cells in zip(names, zip(*part, strict=True), strict=True)
                }
                empty = False
            if empty:
                yield {name: [] for name in names}

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Create a table and fill it, in one transaction.

        Raises:
            UsageError: the table exists already, or a query was given instead of a name.
        """
        return _writer(reference)


def _place(reference: str) -> tuple[Any, Place]:
    """Return SQLAlchemy and what a reference means."""
    match = REFERENCE.fullmatch(reference)
    what = match["what"] if match else None
    if match is None or not what or not what.strip():
        raise UsageError(f"{shown(reference)} names no table.", allowed=FORM)
    alchemy = require("sqlalchemy", "sql")
    try:
        return alchemy, Place(alchemy.engine.make_url(match["url"]), what.strip())
    except (alchemy.exc.ArgumentError, ValueError):
        raise UsageError(f"{shown(match['url'])} is not a database's URL.", allowed=FORM) from None


def _file(place: Place) -> str:
    """Return the file of an SQLite database, or an empty text if it lives in memory."""
    database = place.url.database or ""
    return "" if database in ("", ":memory:") or database.startswith("file:") else database


@contextlib.contextmanager
def _connected(alchemy: Any, place: Place) -> Iterator[Any]:
    """Connect; turn the database's errors into DataErrors that never show the password."""
    engine = _engine(alchemy, place)
    try:
        with engine.connect() as connection:
            yield connection
    except (alchemy.exc.SQLAlchemyError, UnicodeError) as error:
        problem = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        if place.url.password:
            problem = problem.replace(str(place.url.password), "***")
        raise DataError(f"The database {place} says: {problem}.") from None
    finally:
        engine.dispose()


def _engine(alchemy: Any, place: Place) -> Any:
    dialect = place.url.get_backend_name()
    try:
        return alchemy.create_engine(place.url, poolclass=alchemy.pool.NullPool)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"A {dialect} database needs the package '{error.name}', which is not installed.",
            hint=f"Install it with: pip install {error.name}",
        ) from None
    except (alchemy.exc.ArgumentError, TypeError, ValueError):
        raise UsageError(
            f"'{place.url.drivername}' is not a kind of database that SQLAlchemy knows here.",
            allowed="For example: sqlite, postgresql+psycopg, mysql+pymysql.",
            hint="Other kinds come with a package of their own.",
        ) from None


def _table(alchemy: Any, connection: Any, place: Place) -> Any:
    """Return the table that is meant, quoted as its database wants it.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    looked = alchemy.inspect(connection)
    schema, _, name = place.what.rpartition(".")
    if looked.has_table(place.what):
        return alchemy.table(alchemy.quoted_name(place.what, None))
    if schema and looked.has_table(name, schema=schema):
        return alchemy.table(name, schema=schema)
    names = [*looked.get_table_names(), *looked.get_view_names()]
    raise DataError(
        f"There is no table '{place.what}' in {place}.",
        allowed=f"Tables: {listed(names)}." if names else "It has no tables.",
        hint=nearest(place.what, names),
    )


@contextlib.contextmanager
def _writer(reference: str) -> Iterator[TableWriter]:
    alchemy, place = _place(reference)
    if QUERY.match(place.what):
        raise UsageError(f"A query cannot be written to: {place.what[:60]!r}.", allowed=FORM)
    file = _file(place) if place.url.get_backend_name() == "sqlite" else ""
    fresh = bool(file) and not os.path.exists(destination(file))
    try:
        with _connected(alchemy, place) as connection:
            writer = _SqlWriter(alchemy, connection, place)
            try:
                yield writer
                connection.commit()
            except BaseException:
                writer.undo()
                raise
    finally:
        # SQLite makes the file on the first statement, even if that is rolled back.
        if fresh and os.path.exists(file) and os.path.getsize(file) == 0:
            os.unlink(file)


@final
class _SqlWriter(TableWriter):
    def __init__(self, alchemy: Any, connection: Any, place: Place) -> None:
        self._alchemy, self._connection, self._place = alchemy, connection, place
        self._columns: list[str] | None = None
        self._created: Any = None
        schema, _, name = ("", "", place.what) if connection.dialect.name == "sqlite" else place.what.rpartition(".")
        if alchemy.inspect(connection).has_table(name, schema=schema or None):
            raise UsageError(
                f"The table '{place.what}' in {place} exists already.",
                allowed="A new table is written; nothing is ever replaced or added to.",
                hint=f"Give another name, such as {place.what}_new.",
            )
        connection.rollback()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # else Python's driver creates the table outside the transaction
        self._name, self._schema = name, schema or None

    def write(self, table: Table) -> None:
        """Append rows."""
        columns = same_columns(self._columns, table)
        cells = [[plain(cell) for cell in column] for column in table.values()]
        if self._created is None:
            self._columns = columns
            types = [_type(self._alchemy, column) for column in cells]
            made = [
                self._alchemy.Column(n, t, key=f"c{k}") for k, (n, t) in enumerate(zip(columns, types, strict=True))
            ]
            self._created = self._alchemy.Table(self._name, self._alchemy.MetaData(), *made, schema=self._schema)
            self._created.create(self._connection)
        if table_rows(table):
            kinds = [isinstance(column.type, self._alchemy.Text) for column in self._created.columns]
            fitted = [_texts(column) if text else column for column, text in zip(cells, kinds, strict=True)]
            rows = [{f"c{k}": cell for k, cell in enumerate(row)} for row in zip(*fitted, strict=True)]
            self._connection.execute(self._created.insert(), rows)

    def undo(self) -> None:
        """Leave nothing behind, also where the database commits the making of a table at once."""
        with contextlib.suppress(self._alchemy.exc.SQLAlchemyError):
            self._connection.rollback()
            if self._created is not None:
                self._created.drop(self._connection, checkfirst=True)
                self._connection.commit()


def _texts(column: Sequence[Any]) -> list[str | None]:
    return [None if c is None else as_flat_text(c).encode("utf-8", "replace").decode("utf-8") for c in column]


def _type(alchemy: Any, cells: Sequence[Any]) -> Any:
    """Return the column type that holds all cells; text where there is no other."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return alchemy.Boolean()
    if kinds == {int} and all(abs(cell) < 2**63 for cell in cells if cell is not None):
        return alchemy.BigInteger()
    if kinds == {bytes}:
        return alchemy.LargeBinary()
    if kinds and kinds <= {int, float} and kinds != {int}:
        return alchemy.Double()
    if kinds == {datetime}:
        return alchemy.DateTime()
    return alchemy.Date() if kinds == {date} else alchemy.Text()
