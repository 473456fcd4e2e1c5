"""Networks of convolutions with fewer channels: smaller for real, and nearly as before."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("openvino")

from headstart.core.errors import UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _channels  # noqa: E402
from headstart.formats.openvino import OpenVINO, _core, _graph  # noqa: E402
from headstart.stages.networks import fetch, start  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def pixels(count: int = 24) -> np.ndarray:
    """Return pictures of blots: what stands beside a place is like it, as on photos."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, 3, 8, 8)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 1, 8, 8), np.float32)) + 0.1 * rng.normal(size=(count, 3, 64, 64)).astype("f4")


def made(name: str, tmp_path, dead: float = 0.0):
    """Return a network with settled norms.

    Args:
        dead: share of the channels inside its blocks that give nothing.
    """
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None)
    module.train()
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.momentum = None
    with torch.no_grad():
        module(torch.from_numpy(pixels()))
        if dead:
            for block in module.layer1:
                for part in (block.bn1.weight, block.bn1.bias):
                    part[: int(dead * len(part))] = 0
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    network = fetch(f"torchvision:{name}", "", Quiet(), str(tmp_path / "weights.pth"))
    preprocessing = {**network.preprocessing, "size": [64, 64], "crop": None}
    return replace(network, preprocessing=preprocessing)


def vectors(network) -> np.ndarray:
    return start(network).session.run({"pixels": pixels()})["embedding"]


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 8), ("mobilenet_v2", 19), ("vgg11", 7), ("squeezenet1_0", 1)])
def test_what_stands_between_two_convolutions_is_found(name, count, tmp_path):
    graph = _graph(made(name, tmp_path))
    found = _channels.chains(graph)
    assert len(found) == count
    depthwise = [node for chain in found for node, _ in chain.between if node.get_type_name() == "GroupConvolution"]
    assert len(depthwise) == (17 if name == "mobilenet_v2" else 0)


@pytest.mark.parametrize(("name", "least"), [("resnet18", 0.9), ("mobilenet_v2", 0.9)])
def test_the_channels_are_gone_and_the_others_make_up_for_them(name, least, tmp_path):
    network, given = made(name, tmp_path), {"pixels": pixels()}
    small = OpenVINO().prune(network, 0.25, [given], tmp_path / "small")
    assert start(small).format == "openvino"
    assert OpenVINO().operations(small, given) < 0.85 * OpenVINO().operations(network, given)
    held = small.weights.with_suffix(".bin").stat().st_size
    assert held < 0.85 * network.weights.stat().st_size
    whole, found = vectors(network), vectors(small)
    assert found.shape == whole.shape and cosines(found, whole).mean() > least


def test_channels_that_give_nothing_go_first_and_nothing_changes(tmp_path):
    graph = _graph(made("resnet18", tmp_path, dead=0.5))
    small = graph.clone()
    for place in (0, 1):  # the two blocks half of whose channels give nothing
        chain, old = _channels.chains(small)[place], _channels.chains(graph)[place]
        assert chain.channels == 64
        _channels._without(chain, small, old, graph, 32, [pixels()], _core())
    run = [_core().compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for each in (graph, small)]
    one, other = (np.array(each([pixels()])[0]) for each in run)
    assert cosines(other, one).min() > 0.999


def test_eight_bits_of_a_pruned_network(tmp_path):
    if not importlib.util.find_spec("nncf"):
        pytest.skip("nncf is not installed")
    network, given = made("resnet18", tmp_path), {"pixels": pixels()}
    small = OpenVINO().prune(network, 0.25, [given], tmp_path / "small")
    both = OpenVINO().compress(small, "int8", [given], tmp_path / "both")
    assert start(both).precision == "int8"
    assert cosines(vectors(both), vectors(small)).min() > 0.9


def test_what_cannot_be_left_out_is_told(tmp_path):
    network = made("resnet18", tmp_path)
    with pytest.raises(UsageError, match="cannot be left out"):
        OpenVINO().prune(network, 0.999, [{"pixels": pixels()}], tmp_path / "none")
    with pytest.raises(UsageError, match="no pictures"):
        OpenVINO().prune(network, 0.5, [], tmp_path / "none")
    with pytest.raises(UsageError, match="text encoders"):
        OpenVINO().prune(network, 0.5, [{"pixels": pixels()}], tmp_path / "none", 0.5)
    assert "pictures that give vectors" in OpenVINO().prunable(replace(network, use="classify"))
    assert not (tmp_path / "none").exists()
