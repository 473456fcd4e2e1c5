"""Columns of files: from what a cell says to what can be opened, compared and answered."""

from __future__ import annotations

import http.server
import threading

import numpy as np
import pytest

from headstart.core.blob import Blob
from headstart.core.dataset import Dataset
from headstart.modalities.image import Image
from headstart.stages import twins
from headstart.stages.check import check, joined
from headstart.stages.files import (
    as_blob,
    is_single_file,
    opened_files,
    readable,
    renamed_file,
    unread,
)
from headstart.stages.infer import infer
from headstart.testing.files import picture, recording

pillow = pytest.importorskip("PIL.Image")


def clutter(seed: int) -> pillow.Image:
    small = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return pillow.fromarray(small).resize((60, 60), 0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    for seed in range(3):
        (tmp_path / "img" / f"{seed}.png").write_bytes(picture(seed).read())
    return tmp_path


def test_names_count_from_the_tables_folder_or_the_one_below_it(folder):
    for cells in (["img/0.png", "img/1.png", None], ["0.png", "1.png", " "]):
        opened = opened_files({"photo": cells, "other": ["a", "b", "c"]}, ["photo"], folder)
        assert [each.read() for each in opened["photo"][:2]] == [picture(0).read(), picture(1).read()]
        assert [str(each) for each in opened["photo"][:2]] == cells[:2]
        assert opened["photo"][2] == cells[2]
        assert opened["other"] == ["a", "b", "c"]


def test_what_becomes_a_blob(folder):
    assert as_blob("img/0.png", folder).read() == picture(0).read()
    assert as_blob(str(folder / "img" / "0.png"), folder / "elsewhere").read() == picture(0).read()
    assert as_blob(folder / "img" / "0.png").read() == picture(0).read()
    assert as_blob("https://127.0.0.1/a.png").name == "https://127.0.0.1/a.png"
    for cell in ("data:image/png;base64,AAAA", b"bytes", None, 3.0, ""):
        assert as_blob(cell, folder) is cell


def test_a_column_of_files_under_another_name():
    blobs = [picture(0), picture(1)]
    table = {"picture": blobs, "file": ["0.png", "1.png"], "label": ["a", "b"]}
    assert list(renamed_file(table, ["image"])) == ["image", "file", "label"]
    paths = {"file": ["0.png", "1.png"], "label": ["a", "b"]}
    assert list(renamed_file(paths, ["image"])) == ["image", "label"]
    assert list(renamed_file({"a": blobs, "b": blobs}, ["image"])) == ["a", "b"]
    assert renamed_file({"image": blobs, "other": blobs}, ["image"])["other"] == blobs
    assert list(renamed_file({"raw": [each.read() for each in blobs]}, ["image"])) == ["image"]


def test_one_file_is_told_from_a_table(folder):
    (folder / "t.csv").write_text("a\n1\n")
    assert is_single_file(str(folder / "img" / "0.png"), ["image"])
    assert not is_single_file(str(folder / "img" / "0.png"), [])
    for name in ("img", "t.csv", "missing.png"):
        assert not is_single_file(str(folder / name), ["image"])


def test_rows_whose_files_cannot_be_read_are_found():
    cells = [picture(0), Blob("bad.png", lambda: b"no"), None, picture(1).read()]
    rows, reasons = readable([Image(["x"])], {"x": cells})
    assert rows.tolist() == [0, 3]
    assert len(reasons) == 2
    assert "bad.png" in " ".join(reasons)
    assert "Row 3 has no file" in unread(reasons)
    assert unread(["a."] * 7).endswith("And 2 more.")


def test_rows_are_compared_by_what_is_in_their_files():
    one, other = picture(0).read(), picture(1).read()
    cells = [Blob("a.png", lambda: one), Blob("b.png", lambda: one), Blob("a.png", lambda: other), one]
    texts = joined(Dataset({"x": cells, "t": ["s"] * 4}, {"image": ["x"], "text": ["t"]}, ["y"]))
    assert texts[0] == texts[1] == texts[3] != texts[2]
    held = [clutter(0), *(np.zeros((200, 200, 3), np.uint8) for _ in range(2))]
    held[2][100, 100] = 1
    assert len(set(joined(Dataset({"x": held}, {"image": ["x"]}, ["y"])))) == 3


def test_fingerprints_tell_pictures_apart_and_stay_the_same():
    arrays = [np.zeros((200, 200, 3), np.uint8) for _ in range(2)]
    arrays[1][100, 100] = 1
    prints = [Dataset({"x": [each]}, {"image": ["x"]}).fingerprint() for each in [*arrays, arrays[0].copy()]]
    assert prints[0] == prints[2] != prints[1]
    images = [pillow.fromarray(each) for each in [*arrays, arrays[0].copy()]]
    prints = [Dataset({"x": [each]}, {"image": ["x"]}).fingerprint() for each in images]
    assert prints[0] == prints[2] != prints[1]


def brightness(*, by: float = 1.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(64) * by
    vector = np.random.default_rng(99).standard_normal(64) + noise
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_near_twins_share_a_group():
    strangers = [brightness(by=3, seed=seed) for seed in range(5)]
    vectors = np.stack([strangers[0], *strangers, brightness(by=0.05, seed=7), brightness(by=0.05, seed=8)])
    groups = twins.near(vectors)
    assert groups[0] == groups[1]
    assert groups[6] == groups[7]
    assert len(set(groups.tolist())) == 6


def test_twins_of_twins_share_a_group():
    angle = np.arccos(twins.ALIKE) * 0.9
    vectors = np.array([[np.cos(k * angle), np.sin(k * angle)] for k in range(6)] + [[0, -1]], np.float32)
    groups = twins.near(vectors)
    assert len(set(groups[:6].tolist())) == 1
    assert groups[6] != groups[0]


def test_near_twins_are_found_among_many():
    many = np.random.default_rng(0).standard_normal((twins.BLOCK + 50, 64)).astype(np.float32)
    vectors = np.concatenate([many, many[:3] + 0.01])
    groups = twins.near(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    assert (groups[:3] == groups[-3:]).all()
    assert len(set(groups.tolist())) == len(many)


def test_near_twins_of_pictures_stay_on_one_side_of_the_split():
    from headstart.core.recipe import Recipe
    from headstart.stages.prepare import split

    first = [clutter(seed) for seed in range(40)]
    # The same pictures again: smaller, darker, as a JPEG would change them.
    again = [each.resize((48, 48), 2).point(lambda value: value * 0.7) for each in first]
    label = ["a", "b"] * 40
    dataset = infer({"photo": [*first, *again], "label": label}, targets=("label",))
    checked = check(dataset)
    assert checked.twins == {"rows": 80, "groups": 40}
    assert any("near twin" in each for each in checked.warnings)
    test = split(checked, Recipe(), 0)
    assert (test[:40] == test[40:]).all()
    assert 0 < test.sum() < 80


def test_copies_of_recordings_are_twins_and_their_labels_compared():
    sounds = [recording(seed, pitch=200 + 20 * seed) for seed in range(15)]
    copies = [Blob(f"copy_{each.name}", each.open) for each in sounds[:5]]
    table = {"sound": [*sounds, *copies], "label": [*["a", "b", "c"] * 5, "b", "b", "c", "a", "b"]}
    checked = check(infer(table, targets=("label",)))
    assert checked.twins == {"rows": 10, "groups": 5}
    assert (checked.groups[:5] == checked.groups[15:]).all()
    told = " ".join(checked.warnings)
    assert "2 rows have equal inputs but different 'label' (for example 'tone_0.wav')" in told


def test_what_a_url_holds_is_fetched_once(tmp_path):
    pytest.importorskip("httpx2")
    asked = []

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture(int(self.path[1])).read())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        blobs = [as_blob(f"http://127.0.0.1:{server.server_port}/{number}") for number in range(2)]
        assert [each.read() for each in blobs * 3] == [picture(number).read() for number in range(2)] * 3
        server.shutdown()
    assert sorted(asked) == ["/0", "/1"]
