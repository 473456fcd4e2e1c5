"""Tables, folders and archives answered by models as they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from headstart.cli.main import main
from headstart.core.arrays import Session
from headstart.core.backbone import Backbone, Network
from headstart.core.errors import DataError, UsageError
from headstart.pipelines.classify import Classify
from headstart.pipelines.embed import Embed
from headstart.stages import answer
from headstart.stages.pretrained import Pretrained, pretrained
from headstart.stages.read import read_table
from headstart.testing.files import picture
from headstart.testing.networks import write_bert

TEXTS = ["My order has not arrived yet", "Where is my money?", "Thank you very much"]


class Colours(Session):
    """A network of pictures that gives each one's mean colour."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.batches: list[int] = []

    def run(self, arrays):
        self.batches.append(len(arrays["pixels"]))
        return {self.name: arrays["pixels"].mean((2, 3))}


def of_pictures(task: str = "classify") -> Pretrained:
    backbone = Backbone("local", "colours", modality="image", width=3, uses=("classify", "embed"))
    preprocessing = {"size": [16, 16], "scale": 1 / 255}
    network = Network(
        Path(), "colours", {}, Path("none"), backbone, preprocessing, use=task, labels=("red", "green", "blue")
    )
    pipeline = Classify() if task == "classify" else Embed()
    return Pretrained(task, pipeline, network, Colours("logits" if task == "classify" else "embedding"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    return f"local:{write_bert(tmp_path_factory.mktemp('bert') / 'model')}"


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for number in range(5):
        file = folder / ("squares" if number % 2 else "bars") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number).read())
    return folder


def csv(path: Path, header: str, *rows: str) -> str:
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_the_table_comes_first_and_the_answers_behind(bert, tmp_path):
    model = pretrained(bert)
    source = csv(tmp_path / "a.csv", "number,message", *(f"{at},{text}" for at, text in enumerate(TEXTS)))
    assert model.predict_table(source, out=tmp_path / "out.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["number", "message", "embedding"]
    for row, text in zip(rows, TEXTS, strict=True):
        assert np.allclose(row["embedding"], model.predict(text)["embedding"], atol=1e-4)


def test_vectors_are_written_as_an_array(bert, tmp_path, monkeypatch):
    # Three chunks, so that the file grows after its head is written.
    monkeypatch.setattr(answer, "TEXTS", 2)
    model = pretrained(bert)
    source = csv(tmp_path / "a.csv", "message,other", *(f"{text},x{at}" for at, text in enumerate(TEXTS * 2)))
    assert model.predict_table(source, out=tmp_path / "out.npy", column="message") == 6
    vectors = np.load(tmp_path / "out.npy")
    assert (vectors.shape, vectors.dtype) == ((6, 32), np.float32)
    assert np.allclose(vectors, [model.predict(text)["embedding"] for text in TEXTS * 2], atol=1e-4)


def test_vectors_stay_numbers_in_parquet(bert, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    source = csv(tmp_path / "a.csv", "message,other", *(f"{text},x" for text in TEXTS))
    pretrained(bert).predict_table(source, out=tmp_path / "out.parquet", column="message")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("embedding").type) == "list<element: double>"
    assert len(table["embedding"][0].as_py()) == 32


def test_a_folder_of_pictures(photos, tmp_path):
    model = of_pictures()
    assert model.predict_table(photos, out=tmp_path / "out.csv", top=2) == 5
    table, _ = read_table(tmp_path / "out.csv")
    # The folder's own classes stay beside the answers.
    assert list(table) == ["image", "file", "label_given", "label", "score", "top"]
    assert table["label_given"] == ["bars", "bars", "bars", "squares", "squares"]
    for file, label in zip(table["file"], table["label"], strict=True):
        assert model.predict(photos / file)["label"] == label


def test_an_archive_of_pictures(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.write(file, file.relative_to(photos))
    model = of_pictures("embed")
    assert model.predict_table(tmp_path / "photos.zip", out=tmp_path / "a.npy") == 5
    model.predict_table(photos, out=tmp_path / "b.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_files_of_a_table_count_from_its_folder_and_come_in_batches(photos, tmp_path):
    names = [str(file.relative_to(photos)) for file in sorted(photos.rglob("*.png"))] * 20
    source = csv(photos / "list.csv", "price,photo", *(f"{at},{name}" for at, name in enumerate(names)))
    model = of_pictures("embed")
    assert model.predict_table(source, out=tmp_path / "a.npy") == 100
    assert model.session.batches == [32, 32, 32, 4]


def test_rows_that_cannot_be_read_have_no_answer(photos, tmp_path, capsys):
    from headstart.core.progress import Console

    (photos / "bars" / "0.png").write_bytes(picture(0).read()[:200])
    (photos / "bars" / "2.png").write_bytes(b"")
    model = of_pictures("embed")
    assert model.predict_table(photos, out=tmp_path / "out.npy", progress=Console()) == 5
    assert np.isnan(np.load(tmp_path / "out.npy")).all(axis=1).tolist() == [True, True, False, False, False]
    told = capsys.readouterr().err
    assert "2 of 5 rows cannot be read and have no answer" in told
    assert "'bars/2.png' is empty" in told


def test_nothing_is_written_where_nothing_can_be_read(photos, tmp_path):
    for file in photos.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="is not a picture"):
        of_pictures().predict_table(photos, out=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_blank_cells_have_no_answer(bert, tmp_path):
    source = csv(tmp_path / "a.csv", "message,other", " ,a", f"{TEXTS[0]},b", f"{TEXTS[1]},c")
    pretrained(bert).predict_table(source, out=tmp_path / "out.jsonl", column="message")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["embedding"] is None for row in rows] == [True, False, False]


@pytest.mark.parametrize(
    ("header", "rows", "problem"),
    [
        ("message,comment", [f"{text},{text} again" for text in TEXTS], "2 columns hold texts"),
        ("price,date", ["1.5,2024-01-01", "2.5,2024-02-01"], "No column of the table holds texts"),
        ("photo", ["a.jpg", "b.jpg"], "No column of the table holds texts"),
    ],
)
def test_the_column_must_be_told_apart(header, rows, problem, bert, tmp_path):
    model, source = pretrained(bert), csv(tmp_path / "a.csv", header, *rows)
    with pytest.raises(DataError, match=problem) as caught:
        model.predict_table(source, out=tmp_path / "out.csv")
    assert "--column" in caught.value.hint
    with pytest.raises(DataError, match="no column 'mesage'"):
        model.predict_table(source, out=tmp_path / "out.csv", column="mesage")


def test_what_cannot_be_written(bert, photos, tmp_path):
    with pytest.raises(UsageError, match="holds vectors, and this task gives none"):
        of_pictures().predict_table(photos, out=tmp_path / "out.npy")
    with pytest.raises(UsageError, match="no kind of table"):
        of_pictures().predict_table(photos, out=tmp_path / "out.png")
    with pytest.raises(DataError, match="has no rows"):
        pretrained(bert).predict_table(csv(tmp_path / "a.csv", "message"), out=tmp_path / "out.csv")
    both = csv(tmp_path / "b.csv", "message,embedding,embedding_given", "My order has not arrived,1,2")
    with pytest.raises(DataError, match="would overwrite"):
        pretrained(bert).predict_table(both, out=tmp_path / "out.csv", column="message")


def test_questions_about_their_own_texts():
    asked: list[str] = []

    def run(inputs):
        asked.extend(inputs)
        return [{"answer": "May"} for _ in inputs]

    table = {"id": ["a", "b"], "question": ["When?", None], "context": ["In May.", "In June."]}
    (found,) = answer.Answers("text", run, asks=True).chunks(table, "", answer.ReadOptions())
    assert [json.loads(each) for each in asked] == [{"question": "When?", "context": "In May."}]
    assert found == {**table, "answer": ["May", None]}


def told(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command_line(bert, tmp_path, capsys):
    source = csv(tmp_path / "a.csv", "message,other", *(f"{text},{at}" for at, text in enumerate(TEXTS)))
    code, out, _ = told(capsys, bert, source)
    assert code == 0
    assert [json.loads(line)["message"] for line in out.splitlines()] == TEXTS
    code, out, _ = told(capsys, bert, source, "--json", "--column", "message")
    assert [each["other"] for each in json.loads(out)] == ["0", "1", "2"]
    code, out, err = told(capsys, bert, source, "-o", tmp_path / "out.npy")
    assert (code, out) == (0, "")
    assert "3 rows answered" in err
    assert np.load(tmp_path / "out.npy").shape == (3, 32)


def test_mistakes_are_told(bert, photos, tmp_path, capsys):
    def fails(problem: str, *arguments: object) -> None:
        code, _, err = told(capsys, *arguments)
        assert code in (2, 3, 4, 5), err
        assert problem in err
        assert "Traceback" not in err
        assert "bug in headstart" not in err

    fails("There is no hub 'torchvison'", "torchvison:mobilenet_v2", "a.jpg", "--weights", "a.pth")
    fails("Did you mean 'torchvision'?", "torchvison:mobilenet_v2", "a.jpg")
    fails("is a file, and this model reads text", bert, photos / "bars" / "0.png")
    fails("headstart models --modality image", bert, photos / "bars" / "0.png")
    fails("There is no file", bert, tmp_path / "nothing.csv")
    fails("The input is empty", bert, "")
    fails("The task 'embed' has no option 'top'", bert, "Hi", "--top", 3)
    fails("invalid int value: 'abc'", bert, "Hi", "--top", "abc")
    fails("--column names a column of a table", bert, "Hi", "--column", "message")
    fails("There is nothing called 'fil_mask'", bert, "Hi", "--task", "fil_mask")
    fails("cannot fill mask", bert, "Hi", "--task", "fill_mask")
    source = csv(tmp_path / "a.csv", "message", *TEXTS)
    fails("A table is not streamed", bert, source, "--stream")
    with pytest.raises(UsageError, match="--top is 0"):
        of_pictures().predict(photos / "bars" / "0.png", top=0)
    with pytest.raises(DataError, match="is a folder"):
        of_pictures().predict(photos)
    with pytest.raises(DataError, match="There is no file 'a dog on a sofa'"):
        of_pictures().predict("a dog on a sofa")
