"""CSV and JSON lines: what is found out, what is refused and with which line, and round trips of nasty cells."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.core.dataset import table_rows
from headstart.core.errors import DataError
from headstart.core.source import ReadOptions
from headstart.stages.read import open_table, read_table, table_writer

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(tmp_path, content, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(str(path), ReadOptions(**options))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings_are_found_out_or_named(tmp_path, encoding):
    text = "text,label\n" + "Schöne Grüße aus Köln,ä\nÜber die Brücke geht es nicht,ö\n" * 30
    named = {"encoding": encoding} if encoding == "utf-16-le" else {}
    table, notes = read(tmp_path, text.encode(encoding), **named)
    assert table["text"][0] == "Schöne Grüße aus Köln"
    assert list(table) == ["text", "label"]
    assert any("encoding" in note for note in notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_out(tmp_path, delimiter):
    rows = [["text", "label"], ["a, b; c", "x"], ["line\nbreak", "y"], ["plain", "z"]]
    lines = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    table, _ = read(tmp_path, lines)
    assert table == {"text": ["a, b; c", "line\nbreak", "plain"], "label": ["x", "y", "z"]}


def test_one_column_blank_lines_and_spaced_headers(tmp_path):
    assert read(tmp_path, "text\nhello there\n\nyou, too\n", delimiter=";")[0] == {"text": ["hello there", "you, too"]}
    assert list(read(tmp_path, " a , b \n1,2\n")[0]) == ["a", "b"]


def test_a_header_alone_has_no_rows(tmp_path):
    assert read(tmp_path, "a,b\n")[0] == {"a": [], "b": []}


def test_compressed_files(tmp_path):
    assert read(tmp_path, gzip.compress(b"a,b\n1,2\n"), "t.csv.gz")[0] == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("a,b\n1,2\n1,2,3\n", "Line 3"),
        ("a,b\n1,2\n1\n", "Line 3"),
        ("a,b,a\n1,2,3\n", "'a'"),
        ('a,b\n1,2\n"open,3\n4,5\n', "3"),
        ("schön,b\n".encode() * 400 + b"\xff\xfe\xfa,c\n", "401"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "PNG"),
        (b"PK\x03\x04" + bytes(200), ""),
        (b"PAR1" + bytes(200), ""),
        ("a,b\n1,2\n" + "x" * 11_000_000 + ",3\n", "3"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, content, words):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert words in str(caught.value)


def test_json_lines(tmp_path):
    table, _ = read(tmp_path, '{"a": 1, "t": ["x", "y"]}\n\n{"a": null, "t": []}\n', "t.jsonl")
    assert table == {"a": [1, None], "t": [["x", "y"], []]}
    assert read(tmp_path, '[{"a": 1}, {"a": 2}]', "t.json")[0] == {"a": [1, 2]}
    for content, word in (('{"a": 1}\n{"a": \n', "ine 2"), ('{"a": 1}\n[1]\n', "ine 2"), ("", "no objects")):
        with pytest.raises(DataError) as caught:
            read(tmp_path, content, "t.jsonl")
        assert word in str(caught.value)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=30)


@SLOW
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_nasty_cells_survive_csv(tmp_path, rows):
    table = {"first": [row[0] for row in rows], "second": [f"x{row[1]}" for row in rows]}
    with table_writer(str(tmp_path / "t.csv")) as writer:
        writer.write(table)
    back, _ = read_table(str(tmp_path / "t.csv"))
    assert back == table


@SLOW
@given(rows=st.lists(st.tuples(CELL, st.lists(CELL, max_size=3)), min_size=1, max_size=8))
def test_nasty_cells_survive_json_lines(tmp_path, rows):
    table = {"first": [row[0] for row in rows], "tags": [row[1] for row in rows]}
    with table_writer(str(tmp_path / "t.jsonl")) as writer:
        writer.write(table)
    assert read_table(str(tmp_path / "t.jsonl"))[0] == table


@SLOW
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.csv.gz", "t.parquet", "t.arrow"])
def test_random_bytes_are_a_table_or_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    try:
        for chunk in open_table(str(tmp_path / name)):
            table_rows(chunk)
    except DataError as error:
        assert error.problem


def test_a_long_table_streams(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text,n\n" + "".join(f"row number {each},{each}\n" for each in range(50_000)))
    sizes = [table_rows(chunk) for chunk in open_table(str(path), rows=1000)]
    assert sum(sizes) == 50_000
    assert max(sizes) <= 1000
