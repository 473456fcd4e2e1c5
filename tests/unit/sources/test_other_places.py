"""Columnar files, frames, folders, databases, and the choice between them."""

from __future__ import annotations

import sqlite3

import pytest

from headstart.core.errors import DataError, HeadstartError, UsageError
from headstart.stages.read import describe, is_table, open_table, read_table, table_writer

TABLE = {"text": ["a", None, "ü"], "n": [1.5, None, 3.0], "tags": [["x"], [], ["y", "z"]]}


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_columnar_files(tmp_path, name):
    with table_writer(str(tmp_path / name)) as writer:
        writer.write(TABLE)
    assert read_table(str(tmp_path / name))[0] == TABLE
    (tmp_path / name).write_bytes(b"PAR1 no")
    with pytest.raises(DataError):
        read_table(str(tmp_path / name))


def test_frames():
    import pandas
    import polars
    import pyarrow

    columns = {"text": ["a", None], "n": [1.0, 2.0]}
    for frame in (
        columns,
        [{"text": "a", "n": 1.0}, {"text": None, "n": 2.0}],
        pandas.DataFrame(columns),
        polars.DataFrame(columns),
        pyarrow.table(columns),
    ):
        assert is_table(frame)
        table, _ = read_table(frame)
        assert table["n"] == [1.0, 2.0]
        assert table["text"][0] == "a"
        assert table["text"][1] is None or table["text"][1] != table["text"][1]


def test_a_folder_of_texts(tmp_path):
    for label, text in (("spam", "buy now"), ("ham", "see you at noon")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text(text)
    table, _ = read_table(str(tmp_path))
    assert sorted(zip(table["label"], table["text"], strict=True)) == [("ham", "see you at noon"), ("spam", "buy now")]


@pytest.fixture
def database(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table tickets (text text, n integer)")
        connection.executemany("insert into tickets values (?, ?)", [("a", 1), (None, 2), ("c", 3)])
    connection.close()
    return f"sqlite:///{tmp_path / 'a.db'}"


def test_a_database_is_read_by_table_and_by_query(database):
    assert read_table(f"{database}::tickets")[0] == {"text": ["a", None, "c"], "n": [1, 2, 3]}
    assert read_table(f"{database}::select n from tickets where n > 1")[0] == {"n": [2, 3]}
    assert [len(chunk["n"]) for chunk in open_table(f"{database}::tickets", rows=2)] == [2, 1]


def test_a_database_table_is_written_once_and_whole(database):
    with table_writer(f"{database}::answers") as writer:
        writer.write({"label": ["x", "y"], "ok": [True, False]})
    assert read_table(f"{database}::answers")[0]["label"] == ["x", "y"]
    with pytest.raises(HeadstartError, match="answers"), table_writer(f"{database}::answers") as writer:
        writer.write({"label": ["z"]})
    with pytest.raises(RuntimeError), table_writer(f"{database}::other") as writer:
        writer.write({"label": ["z"]})
        raise RuntimeError
    with pytest.raises(DataError, match="other"):
        read_table(f"{database}::other")


def test_what_no_source_reads(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="CSV"):
        read_table(str(tmp_path / "t.xlsx"))
    with pytest.raises(UsageError, match="written"), table_writer(str(tmp_path / "t.docx")):
        pass
    with pytest.raises(HeadstartError):
        read_table(42)


def test_texts_are_told_from_tables(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert is_table(str(tmp_path / "t.csv"))
    assert is_table("missing.csv")
    assert not is_table("My order has not arrived. Where is t.csv?")
    assert "secret" not in describe("postgresql://me:secret@host/db::tickets")
