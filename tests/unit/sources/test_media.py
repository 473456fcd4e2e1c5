"""Cells that hold files, and folders and files of annotated pictures."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from headstart.core.blob import Blob, content
from headstart.core.errors import DataError, UsageError
from headstart.sources._cells import as_flat_text, as_json, plain
from headstart.sources.yolo import class_names
from headstart.stages.infer import infer
from headstart.stages.kinds import kind_of
from headstart.stages.read import find_source, open_table, read_table, table_writer
from headstart.testing.files import picture, recording

Image = pytest.importorskip("PIL.Image")

PICTURES = [picture(seed, shape="bar").read() for seed in range(3)]
SOUND = recording(1).read()


def name_of(reference) -> str:
    return type(find_source(reference)).__name__


def written(root, files) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


# Cells


def test_bytes_are_text_unless_they_are_none():
    assert plain("café".encode()) == "café"
    assert plain(b"BM is how this sentence begins") == "BM is how this sentence begins"
    assert plain(b"RIFF raff") == "RIFF raff"
    for cell in (PICTURES[0], SOUND, b"\xff\xfe\x00", b"GIF89a all of it is ASCII"):
        assert plain(cell) == cell
        assert plain(memoryview(cell)) == cell


def test_a_record_of_a_file_is_the_file():
    blob = plain({"bytes": PICTURES[0], "path": "cats/1.png"})
    assert isinstance(blob, Blob)
    assert (blob.name, blob.read()) == ("cats/1.png", PICTURES[0])
    assert plain({"bytes": None, "path": "cats/1.png"}) == "cats/1.png"
    assert plain({"bytes": None, "path": None}) is None
    assert plain({"width": 3}) == '{"width": 3}'


def test_pictures_and_samples_that_python_holds_are_kept():
    image, array = Image.new("L", (4, 3)), np.zeros((3, 4, 3), np.uint8)
    sound = {"array": np.zeros(9), "sampling_rate": 8000}
    assert plain(image) is image
    assert plain(array) is array
    assert plain(sound) == sound
    assert plain(np.array(["red", "wide"])) == ["red", "wide"]
    assert [as_flat_text(cell) for cell in (image, array)] == ["a picture of 4 x 3"] * 2
    assert as_json(sound) == "a recording of 9 samples"
    assert kind_of("x", [image, image.copy()]) == kind_of("x", [array, array + 1]) == "image"
    assert kind_of("x", [sound, dict(sound)]) == "audio"


def test_arrays_of_one_border_are_not_all_the_same():
    white = [np.full((99, 99, 3), 255, np.uint8) for _ in range(3)]
    for number, each in enumerate(white):
        each[50, 50] = number
    assert kind_of("x", white) == "image"


@pytest.fixture
def columns():
    records = [{"bytes": PICTURES[0], "path": "a.png"}, {"bytes": PICTURES[1], "path": "a.png"}]
    return {"image": [*records, {"bytes": PICTURES[2], "path": None}], "raw": PICTURES, "label": ["x", "y", "x"]}


def frames(columns):
    import pandas
    import polars
    import pyarrow

    records = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return {
        "columns": columns,
        "records": records,
        "pandas": pandas.DataFrame(columns),
        "polars": polars.DataFrame(columns),
        "arrow": pyarrow.table(columns),
    }


@pytest.mark.parametrize("kind", ["columns", "records", "pandas", "polars", "arrow"])
def test_frames_with_pictures(columns, kind):
    table, _ = read_table(frames(columns)[kind])
    assert [each.name for each in table["image"]] == ["a.png", "a.png (file 2)", "file 3"]
    assert [content(each) for each in table["image"]] == table["raw"] == PICTURES
    assert kind_of("image", table["image"]) == kind_of("raw", table["raw"]) == "image"


def test_the_names_of_files_do_not_begin_again_with_each_chunk(columns):
    chunks = list(open_table(columns, rows=1))
    assert [chunk["image"][0].name for chunk in chunks] == ["a.png", "a.png (file 2)", "file 3"]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_pictures_in_columnar_files(columns, tmp_path, name):
    import pyarrow.feather
    import pyarrow.parquet

    write = pyarrow.parquet.write_table if name == "t.parquet" else pyarrow.feather.write_feather
    write(frames(columns)["arrow"], tmp_path / name)
    table, _ = read_table(tmp_path / name)
    assert [content(each) for each in table["image"]] == table["raw"] == PICTURES
    with table_writer(tmp_path / f"again_{name}") as writer:
        writer.write(table)
    again, _ = read_table(tmp_path / f"again_{name}")
    assert again["image"] == ["a.png", "a.png (file 2)", "file 3"]
    assert again["raw"] == PICTURES


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json"])
def test_text_files_hold_names_and_data_urls(columns, tmp_path, name):
    table, _ = read_table(columns)
    with table_writer(tmp_path / name) as writer:
        writer.write(table)
    again, _ = read_table(tmp_path / name)
    assert again["image"] == ["a.png", "a.png (file 2)", "file 3"]
    assert [content(each) for each in again["raw"]] == PICTURES
    assert kind_of("raw", again["raw"]) == "image"


def test_pictures_in_a_database(columns, tmp_path):
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table cats (photo blob, label text)")
        connection.executemany("insert into cats values (?, ?)", zip(PICTURES, "xyx", strict=True))
    connection.close()
    url = f"sqlite:///{tmp_path / 'a.db'}"
    table, _ = read_table(f"{url}::cats")
    assert table["photo"] == PICTURES
    with table_writer(f"{url}::more") as writer:
        writer.write(table)
    assert read_table(f"{url}::more")[0] == table


# COCO


def coco(**changed) -> dict:
    document = {
        "info": {"year": 2026},
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}, {"id": 9, "file_name": "c.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 2, "bbox": [1, 2, 10, 5.5]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4]},
            {"image_id": 7, "category_id": 2, "bbox": [3, 3, 0, 4]},
            {"image_id": 8, "category_id": 1},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return {**document, **changed}


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("a.json", ""),
        ("a.json", "images/"),
        ("train/_annotations.coco.json", "train/"),
        ("annotations/instances_val.json", "images/"),
        ("annotations/instances_val.json", "val/"),
    ],
)
def test_coco(tmp_path, annotations, pictures):
    written(tmp_path, {annotations: json.dumps(coco())})
    written(tmp_path, {f"{pictures}{name}.png": data for name, data in zip("abc", PICTURES, strict=True)})
    assert name_of(tmp_path / annotations) == "Coco"
    table, notes = read_table(str(tmp_path / annotations))
    assert [each.read() for each in table["image"]] == PICTURES
    assert table["file"] == ["a.png", "b.png", "c.png"]
    assert table["labels"] == [["cat", "dog"], ["cat"], []]
    assert table["boxes"][0][:2] == [
        {"label": "dog", "box": [1, 2, 11, 7.5]},
        {"label": "cat", "box": [0, 0, 4, 4]},
    ]
    assert table["boxes"][1:] == [[], []]
    assert notes == [
        "annotations: 3 pictures, 3 boxes, 2 labels",
        "boxes without an area: 1, kept as they are, in 'a.png'",
    ]
    found = infer(table, targets=())
    assert (list(found.targets), found.input_columns) == (["labels"], ["image"])
    assert "not used: 'boxes' (boxes that were marked" in " ".join(found.notes)


def test_coco_is_told_from_other_json(tmp_path):
    rows = [{"text": "a", "images": ["x.png"]}, {"text": "b", "images": []}]
    written(
        tmp_path,
        {
            "array.json": json.dumps(rows),
            "lines.json": "\n".join(map(json.dumps, rows)),
            "first.json": json.dumps({"images": [{"id": 1}], "label": "x"}),
            "coco.json.gz": gzip.compress(json.dumps(coco()).encode()),
            "late.json": json.dumps({"annotations": [{"image_id": 1}] * 50_000, "images": [], "categories": []}),
        },
    )
    kinds = {path.name: name_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "array.json": "Jsonl",
        "lines.json": "Jsonl",
        "first.json": "Jsonl",
        "coco.json.gz": "Coco",
        "late.json": "Coco",
    }
    with pytest.raises(UsageError, match="only read"), table_writer(tmp_path / "coco.json.gz"):
        pass


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": [{"id": 7}]}, r"images\[0\] of '.*a.json' has no file_name"),
        ({"images": [[]]}, r"images\[0\]"),
        ({"categories": []}, r"annotations\[0\] of '.*' has the category_id 2"),
        ({"annotations": [{"image_id": 1, "category_id": 1}]}, r"has the image_id 1"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, "x", 3]}]}, r"annotations\[0\].*bbox"),
        ({"annotations": {}}, "no list of annotations"),
        ({"images": [], "annotations": []}, "no pictures"),
    ],
)
def test_broken_coco(tmp_path, changed, words):
    written(tmp_path, {"a.json": json.dumps(coco(**changed))})
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "a.json")


def test_coco_that_is_cut_short(tmp_path):
    written(tmp_path, {"a.json": json.dumps(coco())[:-9]})
    with pytest.raises(DataError, match="not whole JSON"):
        read_table(tmp_path / "a.json")


# Pascal VOC


def voc(filename: str, *boxes: tuple) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for label, left, top, right, bottom in boxes
    )
    return f"<annotation><filename>{filename}</filename>{objects}</annotation>"


def test_voc_with_lists_of_splits(tmp_path):
    written(
        tmp_path,
        {
            "Annotations/a.xml": voc(r"C:\photos\a.png", ("cat", 1, 2, 3, 4.5), ("cat", 5, 6, 7, 8)),
            "Annotations/b.xml": voc("renamed", ("dog", 3, 3, 3, 9)),
            "Annotations/c.xml": voc("c.png"),
            "Annotations/readme.xml": "<other/>",
            "ImageSets/Main/train.txt": "a\nc 1\n",
            "ImageSets/Main/val.txt": "b\n",
            "ImageSets/Main/trainval.txt": "a\nb\nc\n",
        },
    )
    written(tmp_path, {f"JPEGImages/{name}.png": data for name, data in zip("abc", PICTURES, strict=True)})
    assert name_of(str(tmp_path)) == "Voc"
    table, notes = read_table(str(tmp_path))
    assert [each.read() for each in table["image"]] == PICTURES
    assert table["labels"] == [["cat"], ["dog"], []]
    assert table["boxes"][0] == [{"label": "cat", "box": [1, 2, 3, 4.5]}, {"label": "cat", "box": [5, 6, 7, 8]}]
    assert table["split"] == ["train", "val", "train"]
    assert notes[1] == "boxes without an area: 1, kept as they are, in 'Annotations/b.xml'"


def test_voc_beside_the_pictures(tmp_path):
    for split, data in (("train", PICTURES[0]), ("valid", PICTURES[1])):
        written(tmp_path, {f"{split}/1.png": data, f"{split}/1.xml": voc("1.png", ("cat", 1, 2, 3, 4))})
    table, _ = read_table(tmp_path)
    assert [each.read() for each in table["image"]] == PICTURES[:2]
    assert table["split"] == ["train", "valid"]
    assert table["file"] == ["train/1.png", "valid/1.png"]


BOMB = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]><annotation><filename>&b;&c;</filename></annotation>"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "document type"),
        (BOMB.encode("utf-16"), "document type"),
        (voc("a.png")[:-5], "not whole XML"),
        (voc("a.png", ("cat", 1, 2, "x", 4)), "Object 1 of '.*a.xml' has the box 1, 2, x, 4"),
        (voc("a.png", ("", 1, 2, 3, 4)), "has no name"),
    ],
)
def test_broken_voc_names_the_file(tmp_path, text, words):
    written(tmp_path, {"0.xml": voc("0.png"), "a.xml": text, "0.png": PICTURES[0], "a.png": PICTURES[1]})
    with pytest.raises(DataError, match=words) as told:
        read_table(tmp_path)
    assert "a.xml" in str(told.value)


def test_a_voc_picture_that_is_missing_is_a_row_that_cannot_be_read(tmp_path):
    written(tmp_path, {"a.xml": voc("a.png", ("cat", 1, 2, 3, 4))})
    table, _ = read_table(tmp_path)
    with pytest.raises(DataError, match=r"'a\.png' cannot be read"):
        table["image"][0].read()


def test_voc_of_real_photos():
    shared = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared")) / "data" / "bccd"
    if not shared.is_dir():
        pytest.skip(f"there is no {shared}")
    table, notes = read_table(shared)
    assert notes[0] == "annotations: 364 pictures, 4,888 boxes, 3 labels"
    assert "BloodImage_00338.xml" in notes[1]
    assert {label for labels in table["labels"] for label in labels} == {"RBC", "WBC", "Platelets"}
    assert set(table["split"]) == {"train", "val", "test"}
    assert content(table["image"][0]).startswith(b"\xff\xd8\xff")


# YOLO

SIZED = Image.new("RGB", (200, 100))


def png(image) -> bytes:
    to = io.BytesIO()
    image.save(to, "PNG")
    return to.getvalue()


YAML = "path: ../elsewhere\ntrain: ../train/images\nnc: 2\nnames: ['cat', \"big dog\"]\n"


def test_yolo(tmp_path):
    written(
        tmp_path,
        {
            "data.yaml": YAML,
            "train/images/a.png": png(SIZED),
            "train/labels/a.txt": "1 0.5 0.5 0.5 0.2\n\n0 .25 .5 0 1\n",
            "train/images/empty.png": png(SIZED),
            "train/images/broken.png": b"no picture",
            "train/labels/broken.txt": "0 .5 .5 .1 .1\n",
            "valid/images/b.png": png(SIZED),
            "valid/labels/b.txt": "0 0.1 0.1 0.5 0.1 0.5 0.9\n",
            "preview.png": png(SIZED),
        },
    )
    assert name_of(str(tmp_path)) == "Yolo"
    table, notes = read_table(str(tmp_path))
    assert table["file"] == [
        *("train/images/a.png", "train/images/broken.png", "train/images/empty.png", "valid/images/b.png"),
    ]
    assert table["labels"] == [["big dog", "cat"], ["cat"], [], ["cat"]]
    assert table["boxes"] == [
        [{"label": "big dog", "box": [50, 40, 150, 60]}, {"label": "cat", "box": [50, 0, 50, 100]}],
        [],
        [],
        [{"label": "cat", "box": [20, 10, 100, 90]}],
    ]
    assert table["split"] == ["train", "train", "train", "valid"]
    assert "train/labels/a.txt" in notes[1]


@pytest.mark.parametrize(
    ("picture", "labels", "classes"),
    [
        ("images/a.png", "labels/a.txt", "classes.txt"),
        ("images/train/a.png", "labels/train/a.txt", "labels/classes.txt"),
        ("a.png", "a.txt", "classes.txt"),
        ("obj_train_data/a.png", "obj_train_data/a.txt", "obj.names"),
    ],
)
def test_yolo_with_a_list_of_classes(tmp_path, picture, labels, classes):
    written(tmp_path, {picture: png(SIZED), labels: "1 .5 .5 1 1", classes: "cat\ndog\n"})
    assert name_of(tmp_path) == "Yolo"
    table, _ = read_table(tmp_path)
    assert table["labels"] == [["dog"]]
    assert table["boxes"] == [[{"label": "dog", "box": [0, 0, 200, 100]}]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 .5 .5 .1", "Line 2 of '.*a.txt' is no box"),
        ("cat .5 .5 .1 .1", "no box"),
        ("0 .5 nan .1 .1", "no box"),
        ("2 .5 .5 .1 .1", "class 2, which has no name. Classes are 0 to 1"),
    ],
)
def test_broken_yolo_names_file_and_line(tmp_path, line, words):
    written(tmp_path, {"data.yaml": YAML, "images/a.png": png(SIZED), "labels/a.txt": f"0 .5 .5 .1 .1\n{line}\n"})
    with pytest.raises(DataError, match=words):
        read_table(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'it''s', \"c, d\"]  # three",
        "names:\n  - cat\n  - 'it''s'  # two\n  - c, d\nnc: 3",
        "names:\n- cat\n# a note\n- it's\n- c, d\n",
        "names:\n  0: cat\n  1: it's\n\n  2: c, d\ndownload: |\n  3: no\n",
        "names: {0: cat, 2: 'c, d', 1: it's}",
        "names: [\n  cat,   # one\n  it's,\n  'c, d'\n]\n",
    ],
)
def test_names_in_yaml(text, tmp_path):
    assert class_names(f"# data\npath: x\n{text}", tmp_path) == ["cat", "it's", "c, d"]


@pytest.mark.parametrize("text", ["names:\n", "names: &all [a]", "names: [a, b", "nc: 3", "names: many"])
def test_names_that_cannot_be_read(text, tmp_path):
    with pytest.raises(DataError, match=r"data\.yaml"):
        class_names(text, tmp_path / "data.yaml")


def test_other_folders_stay_folders(tmp_path):
    written(tmp_path / "texts", {"labels/1.txt": "a text", "other/1.txt": "another", "notes.yaml": "a: 1"})
    written(tmp_path / "photos", {"cat/1.png": PICTURES[0], "dog/1.png": PICTURES[1], "classes.txt": "cat\ndog"})
    written(tmp_path / "feeds", {"a/feed.xml": "<rss/>", "a/1.txt": "a text"})
    assert [name_of(tmp_path / name) for name in ("texts", "photos", "feeds")] == ["Folder"] * 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no texts, pictures"):
        read_table(tmp_path / "empty")
