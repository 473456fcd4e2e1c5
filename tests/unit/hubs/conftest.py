"""A stand-in for the Hugging Face Hub with small models in the real layouts, and an empty cache for each test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headstart.testing.networks import write_bert
from tests.standins import huggingface
from tests.standins._http import Address

CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def save(path: Path, **arrays: np.ndarray) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path)


def _field(number: int, value: bytes | int) -> bytes:
    """Return one field of a Protocol Buffers message; numbers and lengths stay below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def graph(inputs: list[int], outputs: list[int]) -> bytes:
    """Return an ONNX file that says what it reads and gives, and nothing else."""

    def port(name: str, shape: list[int]) -> bytes:
        dims = b"".join(_field(1, _field(1, each)) for each in shape)
        return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))

    return _field(7, _field(11, port("x", inputs)) + _field(12, port("y", outputs)))


def change(folder: Path, **more: object) -> None:
    """Change a repository's config.json."""
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **more})


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of repositories, to be copied."""
    root = tmp_path_factory.mktemp("repositories")
    bert = write_bert(root / "me" / "tiny-bert")
    (bert / "README.md").write_text(CARD)
    write_json(bert / ".repo.json", {"pipeline_tag": "sentence-similarity", "tags": ["license:apache-2.0"]})
    for name in ("flax_model.msgpack", "tf_model.h5", "onnx/model.onnx", "pytorch_model.bin"):
        (bert / name).parent.mkdir(exist_ok=True)
        (bert / name).write_bytes(b"not needed")
    resnet = root / "timm" / "resnet-tiny"
    write_json(
        resnet / "config.json",
        {
            "architecture": "resnet10t",
            "num_classes": 3,
            "num_features": 512,
            "label_names": ["cat", "dog", "bird"],
            "pretrained_cfg": {
                "input_size": [3, 176, 176],
                "crop_pct": 0.875,
                "interpolation": "bicubic",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.25, 0.25, 0.25],
                "license": "apache-2.0",
            },
        },
    )
    save(resnet / "model.safetensors", **{"fc.weight": np.zeros((3, 512), np.float32)})
    write_json(resnet / ".repo.json", {"pipeline_tag": "image-classification", "tags": ["license:cc-by-nc-4.0"]})
    return root


@pytest.fixture
def repositories(originals: Path, tmp_path: Path) -> Path:
    """Return a copy of the repositories that a test may change."""
    return Path(shutil.copytree(originals, tmp_path / "repositories"))


@pytest.fixture
def hub(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """Serve the repositories, with an empty cache and no token."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HEADSTART_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with huggingface.serving(repositories) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address
