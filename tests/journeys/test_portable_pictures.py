"""A bundle of pictures that carries its network is served by a machine that has no PyTorch and none of the files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import headstart as hs
from headstart.core.bundle import Bundle
from headstart.core.progress import Quiet
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions
from headstart.stages.compress import _whole, compress
from headstart.stages.ground import ground
from headstart.stages.smaller import Workshop
from headstart.stages.trials import save_variant
from headstart.testing.files import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ELSEWHERE = """
import sys
for name in ("torch", "torchvision", "timm", "transformers"):
    sys.modules[name] = None
from headstart.cli.main import main
sys.exit(main(["predict", sys.argv[1], sys.argv[2], "--json", "--offline"]))
"""


def test_a_portable_bundle_needs_no_torch(tmp_path, monkeypatch):
    model, photo = fitted(tmp_path, monkeypatch, 16, portable=True)
    here = model.predict(str(photo))
    moved = shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    (tmp_path / "weights.pth").unlink()
    assert f'"label": "{here["label"]}"' in answered(moved, photo, tmp_path)


def test_in_eight_bits_it_answers_alike_and_needs_no_torch(tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    model, photo = fitted(tmp_path, monkeypatch, 60)
    found = compress(model.path, precision=["int8"], max_drop=100, out=tmp_path / "tried")
    whole, small = (each for each in found["trials"])
    assert small["name"] == "int8" and small["agreement"] > 0.9
    assert small["size"] < whole["size"]
    # Whether it is faster depends on the processor, so it is written here in any case.
    recipe = Recipe.from_toml(model.path / "recipe.toml")
    rows = ground(model, recipe, None, None, ReadOptions(), Quiet())
    shop = Workshop(_whole(model, Quiet()), rows, recipe, tmp_path / "work", model.path)
    save_variant(tmp_path / "int8", shop, shop.in_form("int8"), dict(model.report))
    (tmp_path / "weights.pth").unlink()
    assert Bundle.open(tmp_path / "int8").json("backbones.json")["image"]["precision"] == "int8"
    assert '"label": "bar"' in answered(tmp_path / "int8", photo, tmp_path)


def fitted(folder, monkeypatch, each, **more):
    """Return a model of squares and bars, and a picture of a bar."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    weights = folder / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), weights)
    for shape in ("square", "bar"):
        for seed in range(each):
            place = folder / "photos" / shape / f"{seed}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(seed, shape=shape).read())
    monkeypatch.setenv("HEADSTART_CACHE", str(folder / "cache"))
    model = hs.fit(
        folder / "photos",
        target="label",
        backbone="torchvision:squeezenet1_1",
        weights=weights,
        method="probe",
        curve="off",
        out=folder / "m",
        **more,
    )
    return model, folder / "photos/bar/3.png"


def answered(bundle, photo, folder):
    """Return what a machine without PyTorch, and with a cache of its own, prints."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, bundle, photo],
        capture_output=True,
        text=True,
        env={**os.environ, "HEADSTART_CACHE": str(folder / "other cache")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
