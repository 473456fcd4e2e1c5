"""A bundle of pictures that carries its network is served by a machine that has no PyTorch and none of the files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import headstart as hs
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
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), weights)
    for shape in ("square", "bar"):
        for seed in range(16):
            place = tmp_path / "photos" / shape / f"{seed}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(seed, shape=shape).read())
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    model = hs.fit(
        tmp_path / "photos",
        target="label",
        backbone="torchvision:squeezenet1_1",
        weights=weights,
        method="probe",
        portable=True,
        out=tmp_path / "m",
    )
    photo = tmp_path / "photos/bar/3.png"
    here = model.predict(str(photo))
    moved = shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    weights.unlink()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, moved, photo],
        capture_output=True,
        text=True,
        env={**os.environ, "HEADSTART_CACHE": str(tmp_path / "other cache")},
    )
    assert done.returncode == 0, done.stderr
    assert f'"label": "{here["label"]}"' in done.stdout
