"""The SQLite ledger: a file for its owner, that grows up with headstart."""

from __future__ import annotations

import sqlite3
import stat
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import DataError, ResourceError, UsageError
from headstart.core.ledger import KINDS, Label, Prediction, new_id
from headstart.ledgers import open_ledger, registry
from headstart.ledgers.sqlite import MIGRATIONS, SQLite


def prediction(number: int = 0, **more) -> Prediction:
    return Prediction(f"p{number}", float(number), "r", number, "/predict", "m", "1", **more)


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "folder" / "ledger.sqlite")


def test_only_its_owner_reads_it(place):
    with open_ledger(place) as ledger:
        ledger.append([prediction()])
        for each in Path(place).parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


@pytest.mark.parametrize(
    ("given_place", "claimed"),
    [("a.sqlite", True), ("a.DB", True), ("sqlite:a", True), ("a.csv", False), ("postgresql://x/y.db", False)],
)
def test_what_it_claims(given_place, claimed):
    assert SQLite.claims(given_place) is claimed


def test_a_place_that_nobody_claims(tmp_path):
    with pytest.raises(UsageError, match=r"predictions\.sqlite"):
        open_ledger(str(tmp_path / "ledger.txt"))
    assert registry.names() == ["sqlite"]


def test_the_tables_are_those_of_the_monitor(place):
    """A field more needs a migration: see MIGRATIONS."""
    open_ledger(place).close()
    connection = sqlite3.connect(place)
    for kind in KINDS:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({kind.__name__.lower()})")]
        assert columns == [each.name for each in fields(kind)]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    assert version == len(MIGRATIONS)
    assert {kind.__name__: len(fields(kind)) for kind in KINDS} == {
        "Run": 6,
        "Prediction": 33,
        "Label": 9,
        "Decision": 7,
    }


def test_an_older_file_is_brought_up_to_date(place, monkeypatch):
    with open_ledger(place) as ledger:
        ledger.append([prediction()])
    step = ("CREATE TABLE alert (id TEXT PRIMARY KEY)", "CREATE INDEX prediction_caller ON prediction(caller)")
    monkeypatch.setattr("headstart.ledgers.sqlite.MIGRATIONS", (*MIGRATIONS, step))
    with open_ledger(place) as ledger:
        assert len(list(ledger.read(Prediction))) == 1
    connection = sqlite3.connect(place)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    assert connection.execute("SELECT count(*) FROM alert").fetchone() == (0,)
    connection.close()
    monkeypatch.setattr("headstart.ledgers.sqlite.MIGRATIONS", MIGRATIONS)
    with pytest.raises(UsageError, match="pip install -U headstart"):
        open_ledger(place)


def test_a_migration_that_fails_changes_nothing(place, monkeypatch):
    open_ledger(place).close()
    monkeypatch.setattr(
        "headstart.ledgers.sqlite.MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE more (id TEXT)", "CREATE nonsense"))
    )
    with pytest.raises(ResourceError, match="nonsense"):
        open_ledger(place)
    monkeypatch.setattr("headstart.ledgers.sqlite.MIGRATIONS", MIGRATIONS)
    with open_ledger(place) as ledger:
        assert ledger.append([prediction()]) == 1


def test_other_programs_files_are_left_alone(tmp_path):
    place = tmp_path / "other.db"
    connection = sqlite3.connect(place)
    connection.execute("CREATE TABLE mine (a)")
    connection.commit()
    connection.close()
    before = place.read_bytes()
    with pytest.raises(UsageError, match="another program"):
        open_ledger(str(place))
    assert place.read_bytes() == before
    (tmp_path / "text.db").write_text("words " * 1000)
    with pytest.raises(UsageError, match="is not a ledger"):
        open_ledger(str(tmp_path / "text.db"))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError):
        open_ledger(str(tmp_path / "file" / "ledger.sqlite"))


def test_a_locked_file_is_told_and_usable_later(place):
    with open_ledger(place) as ledger:
        other = sqlite3.connect(place, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ResourceError, match="locked"):
            ledger.append([prediction()])
        assert list(ledger.read(Prediction)) == []
        other.execute("ROLLBACK")
        other.close()
        assert ledger.append([prediction()]) == 1


def test_it_is_read_while_it_is_written(place):
    with open_ledger(place) as ledger:
        ledger.append([prediction(each) for each in range(100)])
        reading = open_ledger(place)
        rows = reading.read(Prediction)
        first = next(rows)
        ledger.append([prediction(each) for each in range(100, 200)])
        assert [first.row, *(each.row for each in rows)] == list(range(100))
        assert len(list(reading.read(Prediction))) == 200
        reading.close()


def test_two_writers(place):
    open_ledger(place).close()

    def write(start: int) -> None:
        with open_ledger(place) as ledger:
            for each in range(50):
                while True:
                    try:
                        ledger.append([prediction(start + each)])
                        break
                    except ResourceError:  # the other one had it for more than a second
                        continue

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 1000)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with open_ledger(place) as ledger:
        assert len(list(ledger.read(Prediction))) == 100


def test_room_is_given_back(place):
    with open_ledger(place) as ledger:
        ledger.append([prediction(each, input_ref="x" * 2000) for each in range(1000)])
        ledger.append([Label(f"l{each}", 1.0, f"p{each}", "x") for each in range(1000)])
    full = Path(place).stat().st_size
    with open_ledger(place) as ledger:
        while ledger.forget(before=990.0, limit=300):
            pass
        assert len(list(ledger.read(Label))) == 10
    assert Path(place).stat().st_size < full / 4


def test_a_wrong_question(place):
    with open_ledger(place) as ledger, pytest.raises(UsageError, match="has no 'modle'"):
        list(ledger.read(Prediction, where={"modle": "m"}))


TEXT = st.text(max_size=50)


@settings(deadline=None)
@given(
    pred=TEXT | st.none(), conf=st.floats(allow_nan=False) | st.none(), mac=st.binary(max_size=40), tokens=st.integers()
)
def test_what_is_appended_is_read_or_refused(pred, conf, mac, tokens):
    made = prediction(pred=pred, conf=conf, input_mac=mac, tokens=tokens)
    with SQLite.open("sqlite::memory:") as ledger:
        try:
            ledger.append([made])
        except DataError:
            assert not -(2**63) <= tokens < 2**63 or any("\ud800" <= each <= "\udfff" for each in pred or "")
            assert list(ledger.read(Prediction)) == []
        else:
            assert list(ledger.read(Prediction)) == [made]


def test_ids_are_in_the_order_of_time_and_never_the_same():
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))
    threads_made: list[str] = []
    threads = [threading.Thread(target=lambda: threads_made.extend([new_id() for _ in range(2000)])) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(threads_made)) == 8000
