"""Pictures from a folder, an archive, a table and annotations: fit, evaluate, predict, serve; without torch."""

from __future__ import annotations

import base64
import csv
import io
import json
import signal
import subprocess
import sys
import zipfile

import httpx2
import numpy as np
import pytest

import headstart as hs
from headstart.testing.files import picture

Image = pytest.importorskip("PIL.Image")

SHAPES = {"bars": "bar", "squares": "square", "noise": ""}
COLOURS = {"red": (1, 0.2, 0.2), "blue": (0.2, 0.2, 1)}
EACH = 20
WORDS = (
    *("kitchen", "window", "summer", "gentle", "handmade", "river", "oak", "velvet", "morning", "silent", "copper"),
    *("travel", "little", "garden", "winter", "paper", "glass", "bright", "ocean", "simple", "lemon", "harbour"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder of three classes of pictures, two of which are broken."""
    root = tmp_path_factory.mktemp("photos")
    for number, (label, shape) in enumerate(SHAPES.items()):
        (root / label).mkdir()
        for seed in range(EACH):
            (root / label / f"{seed}.png").write_bytes(picture(1000 * number + seed, shape=shape).read())
    (root / "bars" / "text.png").write_text("This is no picture.")
    (root / "squares" / "cut.png").write_bytes((root / "squares" / "1.png").read_bytes()[:400])
    return root


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """Return the same folder as an archive, without what is broken."""
    path = tmp_path_factory.mktemp("archives") / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            if file.stem.isdecimal():
                archive.write(file, file.relative_to(photos))
    return path


@pytest.fixture(scope="module")
def bundle(photos, tmp_path_factory):
    """Return a bundle fitted on the folder."""
    out = tmp_path_factory.mktemp("models") / "photos"
    hs.fit(photos, out=out)
    return out


def product(seed: int, shape: str, colour: str) -> bytes:
    """Return a JPEG of a shape in front of coarse clutter, so that no two are near twins, in shades of a colour."""
    clutter = np.random.default_rng(seed).integers(0, 120, (12, 12), dtype=np.uint8)
    front = np.asarray(Image.open(io.BytesIO(picture(seed, shape=shape).read())).convert("L"))
    grey = np.maximum(front, np.asarray(Image.fromarray(clutter).resize(front.shape, 0)))
    to = io.BytesIO()
    Image.fromarray((grey[..., None] * np.array(COLOURS[colour])).astype(np.uint8)).save(to, "JPEG", quality=90)
    return to.getvalue()


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Return a table of a shop's products, whose photos lie in a folder beside it."""
    root = tmp_path_factory.mktemp("shop")
    (root / "img").mkdir()
    rows, rng = [], np.random.default_rng(0)
    for seed in range(64):
        shape, colour = ("bar", "square")[seed % 2], ("red", "blue")[seed // 2 % 2]
        (root / "img" / f"{seed:03}.jpg").write_bytes(product(seed, shape, colour))
        rows.append(
            {
                "photo": f"img/{seed:03}.jpg",
                "title": " ".join(str(word) for word in rng.choice(WORDS, 5, replace=False)),
                "price": f"{10 + 5 * (seed % 2) + seed % 3}.99",
                "seller": f"s{seed // 8}",
                "category": shape,
                "sub_category": f"{colour} {shape}",
                "attributes": f"{colour}|{'wide' if shape == 'bar' else 'compact'}",
            }
        )
    with (root / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root / "products.csv"


def warnings_of(model) -> str:
    return " ".join(model.report["data"]["warnings"])


def test_a_folder_of_class_folders(bundle):
    model = hs.open_model(bundle)
    report = model.report
    assert report["targets"]["label"]["accuracy"] > 0.8
    assert report["data"]["rows"] == len(SHAPES) * EACH
    assert report["backbone"] is None
    told = warnings_of(model)
    assert "2 rows are left out" in told
    assert "'bars/text.png' is not a picture" in told
    assert "'squares/cut.png' is damaged or cut short" in told
    assert "No pretrained model that reads image is on this machine" in told


def test_a_zip_archive_is_the_same_data(headstart, whole, bundle, tmp_path):
    told = headstart("fit", whole, "--out", tmp_path / "m", "--json", "--quiet")
    assert told.code == 0, told.err
    first = hs.open_model(bundle).report["targets"]["label"]
    assert told.json["targets"]["label"]["accuracy"] == first["accuracy"]
    assert "left out" not in " ".join(told.json["data"]["warnings"])


def test_one_picture_is_answered(headstart, bundle, photos):
    told = headstart("predict", bundle, photos / "bars" / "3.png", "--json", "--quiet")
    assert told.json["label"] == "bars"
    row = json.dumps({"image": str(photos / "squares" / "3.png")})
    assert headstart("predict", bundle, row, "--json", "--quiet").json["label"] == "squares"
    model = hs.open_model(bundle)
    content = (photos / "bars" / "3.png").read_bytes()
    held = Image.open(io.BytesIO(content))
    for cell in (str(photos / "bars" / "3.png"), photos / "bars" / "3.png"):
        assert model.predict(cell) == told.json
    for cell in (content, held, {"bytes": content, "path": None}):
        assert model.predict({"image": cell}) == told.json


def test_what_is_no_picture_is_told(headstart, bundle, photos):
    for name, word in ((photos / "bars" / "text.png", "not a picture"), ("missing.png", "cannot be read")):
        told = headstart("predict", bundle, name, "--quiet")
        assert told.code == 3
        assert word in told.err
        assert str(name) in told.err


def test_a_folder_is_answered_file_by_file(headstart, bundle, photos, tmp_path):
    told = headstart("predict", bundle, photos, "-o", tmp_path / "out.csv")
    assert told.code == 0, told.err
    assert "2 rows have no answer" in told.err
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(SHAPES) * EACH + 2
    assert rows["noise/7.png"]["label"] == rows["noise/7.png"]["label_given"] == "noise"
    assert rows["noise/7.png"]["image"] == "noise/7.png"
    assert rows["bars/text.png"]["label"] == ""


@pytest.mark.parametrize("source", ["photos", "whole"])
def test_evaluate_judges_what_can_be_read(headstart, bundle, source, request):
    told = headstart("evaluate", bundle, request.getfixturevalue(source), "--json", "--quiet")
    assert told.code == 0, told.err
    assert told.json["rows"] == len(SHAPES) * EACH
    assert told.json["targets"]["label"]["accuracy"] > 0.8
    assert ("2 rows are left out" in " ".join(told.json["data"]["warnings"])) == (source == "photos")


def test_several_targets_at_once_with_sellers_held_out(headstart, products, tmp_path):
    out = tmp_path / "m"
    targets = "category,sub_category,attributes"
    told = headstart(
        "fit", products, "--target", targets, "--input", "photo", "--group", "seller", "--out", out, "--json", "--quiet"
    )
    assert told.code == 0, told.err
    report = told.json
    assert report["data"]["inputs"] == {"image": ["photo"]}
    assert "held out by 'seller'" in " ".join(report["data"]["warnings"])
    assert all(report["targets"][name]["accuracy"] > 0.8 for name in ("category", "sub_category"))
    assert report["targets"]["attributes"]["task"] == "tag"
    answer = headstart("predict", out, products.parent / "img" / "003.jpg", "--json", "--quiet").json
    assert (answer["category"], answer["sub_category"]) == ("square", "blue square")
    assert sorted(answer["attributes"]) == ["blue", "compact"]
    judged = headstart("evaluate", out, products, "--json", "--quiet")
    assert judged.code == 0, judged.err
    assert judged.json["targets"]["category"]["accuracy"] > 0.8


def test_picture_title_and_price_in_one_model(headstart, products, tmp_path):
    out = tmp_path / "m"
    told = headstart(
        "fit", products, "--target", "category", "--input", "photo,title,price", "--out", out, "--json", "--quiet"
    )
    assert told.code == 0, told.err
    assert told.json["data"]["inputs"] == {"text": ["title"], "image": ["photo"], "row": ["price"]}
    assert told.json["targets"]["category"]["accuracy"] > 0.8
    assert "No pretrained model reads the image" in " ".join(told.json["data"]["warnings"])
    row = {"photo": str(products.parent / "img" / "002.jpg"), "title": "A fine thing for the house", "price": "12.99"}
    assert headstart("predict", out, json.dumps(row), "--json", "--quiet").json["category"] == "bar"


@pytest.fixture(scope="module")
def client(bundle):
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        with httpx2.Client(base_url=json.loads(line)["url"], timeout=30) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_the_server_answers_the_content_of_a_picture(client, photos):
    url = "data:image/png;base64," + base64.b64encode((photos / "bars" / "3.png").read_bytes()).decode()
    alone = client.post("/predict", json={"image": url}).json()
    assert alone["label"] == "bars"
    many = client.post("/predict", json={"rows": [url, {"image": url}]}).json()["predictions"]
    assert many == [alone, alone]


@pytest.mark.parametrize("cell", ["/etc/passwd", "PHOTO", "file:///etc/passwd", 5])
def test_the_server_opens_no_paths(client, photos, cell):
    cell = str(photos / "bars" / "3.png") if cell == "PHOTO" else cell
    for body in ({"image": cell}, {"rows": [{"image": cell}]}):
        answer = client.post("/predict", json=body)
        assert answer.status_code == 422
        assert "data: URL" in answer.json()["error"]["message"]
        assert "not opened" in answer.json()["error"]["hint"]


def test_the_server_fetches_from_allowed_hosts_only(client):
    answer = client.post("/predict", json={"image": "https://127.0.0.1/a.png"})
    assert answer.status_code == 422
    assert "--url-host" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("body", ["data:image/png;base64,????", "data:image/png;base64,iVBORw0KGgo=", "data:,hello"])
def test_the_server_tells_what_is_no_picture(client, body):
    answer = client.post("/predict", json={"image": body})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


def test_the_servers_documentation_shows_the_format(client):
    row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["anyOf"][0]
    assert row["properties"]["image"]["format"] == "data-url"
    assert list(row["properties"]) == ["image"]
    example = row["properties"]["image"]["examples"][0]
    assert client.post("/predict", json={"image": example}).status_code == 200
    assert 'type="file" accept="image/*"' in client.get("/", headers={"accept": "text/html"}).text
