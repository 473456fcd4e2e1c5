import os
from pathlib import Path

import pytest

from headstart.core.errors import UsageError
from headstart.core.files import atomic_file, atomic_folder, cache_folder, recover_folder, sha256, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "f.txt"
    with atomic_file(path) as part:
        part.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError), atomic_file(path) as part:
        part.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one"
    assert [each.name for each in path.parent.iterdir()] == ["f.txt"]


def test_a_folder_takes_anothers_place_in_one_step(tmp_path):
    place = tmp_path / "m"
    for content in ("one", "two"):
        with atomic_folder(place) as part:
            (part / "a").mkdir()
            (part / "a" / "f").write_text(content)
        assert (place / "a" / "f").read_text() == content
    with pytest.raises(KeyboardInterrupt), atomic_folder(place) as part:
        (part / "f").write_text("three")
        raise KeyboardInterrupt
    assert (place / "a" / "f").read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_an_interrupted_exchange_is_put_right(tmp_path):
    place, old = tmp_path / "m", tmp_path / ".m.old"
    old.mkdir()
    (old / "f").write_text("earlier")
    recover_folder(place)
    assert (place / "f").read_text() == "earlier"
    old.mkdir()
    recover_folder(place)
    assert not old.exists()


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((UsageError, NotADirectoryError, FileExistsError)), atomic_file(tmp_path / "file" / "below"):
        pass


def test_json_refuses_what_json_has_not(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_hash_and_cache(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f").startswith("ba7816bf")
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "headstart"
    monkeypatch.setenv("HEADSTART_CACHE", os.sep + "x")
    assert cache_folder() == Path(os.sep + "x")
