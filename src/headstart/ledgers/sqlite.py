"""A ledger in one SQLite file (WAL): no server, readable by anything, some ten thousand rows a second."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, final

from headstart.core.errors import DataError, ResourceError, UsageError
from headstart.core.ledger import KINDS, Ledger, Record

SUFFIXES = (".sqlite", ".sqlite3", ".db")
APPLICATION = 0x68737432
"""The file's application id, `hst2`, so that no other program's database is written into."""
MEMORY = ":memory:"
"""SQLite's name for a database that is gone when it is closed."""
LONGEST_WAIT = 1.0
"""Seconds that another process's lock is waited for."""
TYPES = {"str": "TEXT", "float": "REAL", "int": "INTEGER", "bytes": "BLOB"}
NAMES = {kind: tuple(each.name for each in fields(kind)) for kind in KINDS}
VALUES = {kind: attrgetter(*names) for kind, names in NAMES.items()}
INSERT = {
    kind: f"INSERT OR IGNORE INTO {kind.__name__.lower()} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    for kind, names in NAMES.items()
}
REFUSED = (
    ValueError,
    OverflowError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What is raised where a record itself, and not the disk, is at fault."""
INDEXES = (
    "CREATE INDEX prediction_route_ts ON prediction(route, ts)",
    "CREATE INDEX prediction_model_ts ON prediction(model, model_version, ts)",
    "CREATE INDEX prediction_ts ON prediction(ts)",
    "CREATE INDEX prediction_request ON prediction(request_id)",
    "CREATE INDEX label_prediction ON label(prediction_id)",
    "CREATE INDEX label_ts ON label(ts)",
)


def _table(kind: type[Record]) -> str:
    """Return the statement that makes a record's table."""
    columns = ["id TEXT PRIMARY KEY"]
    for each in fields(kind)[1:]:
        name, _, optional = str(each.type).partition(" | ")
        columns.append(f"{each.name} {TYPES[name]}{'' if optional else ' NOT NULL'}")
    return f"CREATE TABLE {kind.__name__.lower()} ({', '.join(columns)})"


MIGRATIONS: tuple[tuple[str, ...], ...] = ((*map(_table, KINDS), *INDEXES),)
"""Statements that lead from one version of the tables to the next. When a record gets a field, the first step must be
written out as it was, and a step `ALTER TABLE … ADD COLUMN …` is added."""


@final
class SQLite(Ledger):
    """Records in one file, which only its owner may read.

    Args:
        connection: an open database whose tables are up to date.
        path: where it is, for errors.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    def claims(cls, place: str) -> bool:
        """Claim paths that end in .sqlite, .sqlite3 or .db, and `sqlite:PATH`."""
        return place.startswith("sqlite:") or ("://" not in place and place.casefold().endswith(SUFFIXES))

    @classmethod
    def open(cls, place: str) -> Self:
        """Open or make the file; it is made readable by its owner only, for it holds what people were told."""
        path = Path(place.removeprefix("sqlite://").removeprefix("sqlite:"))
        with _reached(path):
            if str(path) != MEMORY:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            connection = sqlite3.connect(path, timeout=LONGEST_WAIT, isolation_level=None)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    def append(self, records: Sequence[Record]) -> int:
        """Append records in one transaction, and have the disk confirm it."""
        with _reached(self._path), self._transaction():
            before = self._connection.total_changes
            for kind, each in groupby(records, type):
                try:
                    self._connection.executemany(INSERT[kind], map(VALUES[kind], each))
                except REFUSED as error:
                    raise DataError(f"A {kind.__name__.lower()} cannot be kept: {error}.") from error
            return self._connection.total_changes - before

    def read(
        self,
        kind: type[Record],
        *,
        where: Mapping[str, Any] | None = None,
        since: float = 0.0,
        until: float = float("inf"),
        newest: bool = False,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield records as one consistent view of the file, in the order of time."""
        names, asked = NAMES[kind], dict(where or {})
        unknown = asked.keys() - set(names)
        if unknown:
            raise UsageError(f"A {kind.__name__.lower()} has no '{min(unknown)}'.", allowed=", ".join(names))
        tests = [f"{name} = ?" for name in asked]
        values = list(asked.values())
        if since > 0.0 or until < float("inf"):
            tests.append("ts >= ? AND ts < ?")
            values += [since, until]
        order = "DESC" if newest else "ASC"
        statement = (
            f"SELECT {', '.join(names)} FROM {kind.__name__.lower()} "
            f"{'WHERE ' + ' AND '.join(tests) if tests else ''} ORDER BY ts {order}, id {order} LIMIT ?"
        )
        with _reached(self._path):
            for row in self._connection.execute(statement, (*values, -1 if limit is None else limit)):
                yield kind(*row)

    def forget(self, before: float, limit: int = 1000) -> int:
        """Delete old predictions with their labels, and give the room back to the disk."""
        with _reached(self._path):
            with self._transaction():
                statement = "SELECT id FROM prediction WHERE ts < ? ORDER BY ts LIMIT ?"
                old = self._connection.execute(statement, (before, limit)).fetchall()
                self._connection.executemany("DELETE FROM label WHERE prediction_id = ?", old)
                self._connection.executemany("DELETE FROM prediction WHERE id = ?", old)
            if old:
                # `execute` would take the first of its steps only, which frees one page.
                self._connection.executescript(f"PRAGMA incremental_vacuum({4 * limit})")
        return len(old)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # After some errors, such as a full disk, SQLite has rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the database up, and make or migrate its tables."""
    number = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if number != APPLICATION and tables:
        raise UsageError(f"'{path}' is a database of another program.", hint="Give a new file, such as ledger.sqlite.")
    if not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: what is kept outlives a power cut, too. One sync for each batch is cheap.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise UsageError(
                f"'{path}' has tables of version {version}, which this headstart does not know.",
                allowed=f"Up to version {len(MIGRATIONS)}.",
                hint="Update headstart: pip install -U headstart",
            )
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _reached(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into sentences."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ResourceError(f"'{path}' cannot be used now: {error}.", hint="Is the disk full, or read-only?") from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"'{path}' is not a ledger: {error}.", hint="Give a new file, such as ledger.sqlite."
        ) from error
    except OSError as error:
        raise ResourceError(f"'{path}' cannot be used now: {error.strerror}.", hint="Is the disk full?") from error
