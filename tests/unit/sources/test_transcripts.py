"""A folder of recordings with what is said in them."""

from __future__ import annotations

import pytest

from headstart.core.errors import DataError
from headstart.core.source import ReadOptions
from headstart.sources import registry
from headstart.testing.files import recording


def read(folder) -> dict[str, list]:
    source = registry.get("folder")()
    assert source.claims(str(folder))
    found: dict[str, list] = {}
    for chunk in source.chunks(str(folder), ReadOptions(), 2):
        for name, cells in chunk.items():
            found.setdefault(name, []).extend(cells)
    return found


def test_texts_of_the_same_name_are_transcripts(tmp_path):
    for name in ("a", "b", "deep/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.wav").write_bytes(recording(0).read())
    (tmp_path / "a.txt").write_text("Hello\n  there.\n", encoding="utf-8")
    (tmp_path / "deep/c.txt").write_bytes("für dich".encode("cp1252"))
    (tmp_path / "README.txt").write_text("not said by anybody")
    table = read(tmp_path)
    assert table["file"] == ["a.wav", "b.wav", "deep/c.wav"]
    assert table["transcript"] == ["Hello there.", None, "für dich"]


def test_lists_of_lines_are_transcripts(tmp_path):
    for name in ("84/1/84-1-0000.flac", "84/1/84-1-0001.flac", "85/2/85-2-0000.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"fLaC")
    (tmp_path / "84/1/84-1.trans.txt").write_text("84-1-0000 GO DO YOU HEAR\n84-1-0001\n9-9-9 NOBODY\n")
    (tmp_path / "85/2/85-2.trans.txt").write_text("85-2-0000 BUT IN LESS THAN FIVE MINUTES\n")
    table = read(tmp_path)
    assert table["transcript"] == ["GO DO YOU HEAR", "", "BUT IN LESS THAN FIVE MINUTES"]


def test_a_folder_without_transcripts_has_no_such_column(tmp_path):
    (tmp_path / "a.wav").write_bytes(recording(0).read())
    (tmp_path / "notes.txt").write_text("some")
    assert set(read(tmp_path)) == {"audio", "file"}
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02" * 50)
    with pytest.raises(DataError, match=r"a\.txt"):
        read(tmp_path)
