"""StyleGAN2's generator, next to one written from the paper's equations with loops, in NumPy."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from scipy.signal import convolve2d

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.formats.torch import Torch
from headstart.hubs._generators import open_generator
from headstart.pipelines.imagine import Imagine

torch = pytest.importorskip("torch")
StyleGan2 = pytest.importorskip("headstart.formats._stylegan2").StyleGan2

pytestmark = pytest.mark.slow


WIDTH, CHANNELS, LEVELS = 16, {4: 12, 8: 8, 16: 6}, 2


def tensors(seed: int = 0, layers: int = 3) -> dict[str, torch.Tensor]:
    """Return random tensors in the g_ema layout, at 16 x 16 pixels."""
    rng = np.random.default_rng(seed)
    found: dict[str, torch.Tensor] = {}

    def drawn(name: str, *shape: int, scale: float = 1.0, middle: float = 0.0) -> None:
        found[name] = torch.tensor(middle + scale * rng.standard_normal(shape), dtype=torch.float32)

    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line) / 64 * 4

    def convolution(name: str, into: int, out: int, size: int) -> None:
        drawn(f"{name}.conv.weight", 1, out, into, size, size)
        drawn(f"{name}.conv.modulation.weight", into, WIDTH)
        drawn(f"{name}.conv.modulation.bias", into, scale=0.1, middle=1.0)

    def styled(name: str, into: int, out: int) -> None:
        convolution(name, into, out, 3)
        drawn(f"{name}.noise.weight", 1)
        drawn(f"{name}.activate.bias", out)

    for number in range(1, layers + 1):
        drawn(f"style.{number}.weight", WIDTH, WIDTH, scale=100.0)
        drawn(f"style.{number}.bias", WIDTH)
    drawn("input.input", 1, CHANNELS[4], 4, 4)
    styled("conv1", CHANNELS[4], CHANNELS[4])
    convolution("to_rgb1", CHANNELS[4], 3, 1)
    drawn("to_rgb1.bias", 1, 3, 1, 1)
    drawn("noises.noise_0", 1, 1, 4, 4)
    for level in range(LEVELS):
        side = 8 << level
        into, out = CHANNELS[side // 2], CHANNELS[side]
        styled(f"convs.{2 * level}", into, out)
        found[f"convs.{2 * level}.conv.blur.kernel"] = kernel
        styled(f"convs.{2 * level + 1}", out, out)
        convolution(f"to_rgbs.{level}", out, 3, 1)
        drawn(f"to_rgbs.{level}.bias", 1, 3, 1, 1)
        found[f"to_rgbs.{level}.upsample.kernel"] = kernel
        for number in (2 * level + 1, 2 * level + 2):
            drawn(f"noises.noise_{number}", 1, 1, side, side)
    return found


def by_hand(found: dict[str, torch.Tensor], z: np.ndarray) -> np.ndarray:
    """Return the picture (3, h, w) of one latent: modulate, normalise, convolve, one channel after the other."""
    t = {name: each.double().numpy() for name, each in found.items()}
    line = np.array([1.0, 3.0, 3.0, 1.0]) / 8

    def active(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, 0.2 * values) * np.sqrt(2)

    style = z / np.sqrt((z**2).mean() + 1e-8)
    for number in range(1, 4):
        weight = t[f"style.{number}.weight"] * 0.01 / np.sqrt(WIDTH)
        style = active(weight @ style + t[f"style.{number}.bias"] * 0.01)

    def doubled(plane: np.ndarray) -> np.ndarray:
        apart = np.zeros((2 * plane.shape[0], 2 * plane.shape[1]))
        apart[::2, ::2] = plane
        return apart

    def convolved(name: str, planes: np.ndarray, normalised: bool, double: bool) -> np.ndarray:
        weight = t[f"{name}.conv.weight"][0]
        scales = t[f"{name}.conv.modulation.weight"] @ style / np.sqrt(WIDTH) + t[f"{name}.conv.modulation.bias"]
        weight = weight * scales[None, :, None, None] / np.sqrt(weight[0].size)
        if normalised:
            weight = weight / np.sqrt((weight**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
        made = []
        for out in weight:
            if not double:
                # Networks correlate: a convolution with the weights turned round.
                made.append(sum(convolve2d(p, w[::-1, ::-1], "same") for p, w in zip(planes, out, strict=True)))
                continue
            # A transposed convolution: every pixel paints its weights, two pixels apart; then the low-pass filter.
            painted = sum(convolve2d(doubled(p), w) for p, w in zip(planes, out, strict=True))
            blurred = convolve2d(painted[:-1, :-1], np.outer(line, line) * 4)
            made.append(blurred[2:-2, 2:-2])
        return np.stack(made)

    def styled(name: str, planes: np.ndarray, number: int, double: bool = False) -> np.ndarray:
        made = convolved(name, planes, True, double)
        made = made + t[f"{name}.noise.weight"] * t[f"noises.noise_{number}"][0]
        return active(made + t[f"{name}.activate.bias"][:, None, None])

    planes = styled("conv1", t["input.input"][0], 0)
    colours = convolved("to_rgb1", planes, False, False) + t["to_rgb1.bias"][0]
    for level in range(LEVELS):
        planes = styled(f"convs.{2 * level}", planes, 2 * level + 1, double=True)
        planes = styled(f"convs.{2 * level + 1}", planes, 2 * level + 2)
        fine = [convolve2d(doubled(plane), np.outer(line, line) * 4)[1:-2, 1:-2] for plane in colours]
        colours = np.stack(fine) + convolved(f"to_rgbs.{level}", planes, False, False) + t[f"to_rgbs.{level}.bias"][0]
    return colours


def test_it_is_what_the_paper_says():
    found = tensors()
    made = StyleGan2(found, "x")
    z = np.random.default_rng(1).standard_normal((2, WIDTH))
    pictures = made.pictures(made.style(torch.tensor(z, dtype=torch.float32)))
    assert pictures.shape == (2, 3, 16, 16)
    for picture, each in zip(pictures.numpy(), z, strict=True):
        wanted = by_hand(found, each)
        assert np.abs(picture - wanted).max() < 1e-3 * np.abs(wanted).max()


@pytest.fixture
def checkpoint(tmp_path):
    """Return a file as a training run writes it: both networks, and its settings, which are no tensors."""
    path = tmp_path / "550000.pt"
    other = {"convs.0.0.weight": torch.zeros(3)}
    torch.save({"g": tensors(1), "d": other, "g_ema": tensors(), "args": argparse.Namespace(size=16)}, path)
    return path


def test_the_averaged_generator_of_a_training_run_is_opened(checkpoint):
    network = open_generator(checkpoint, Backbone("local", str(checkpoint)))
    assert (network.library, network.backbone.modality, network.backbone.uses) == ("stylegan2", "noise", ("imagine",))
    session, pipeline = Torch().open(network, "f32", 1), Imagine()

    def drawn(**options):
        return pipeline.run(network, session, [""], pipeline.settle(options))[0]

    first, again = drawn(seed=3, count=2), drawn(seed=3, count=2)
    assert [each.shape for each in first["_pictures"]] == [(16, 16, 3)] * 2
    assert np.array_equal(first["_pictures"], again["_pictures"])
    assert np.array_equal(first["_pictures"][1], drawn(seed=4)["_pictures"][0])
    assert not np.array_equal(first["_pictures"][0], first["_pictures"][1])
    z = np.random.default_rng(3).standard_normal((1, WIDTH)).astype(np.float32)
    assert np.array_equal(session.run({"z": z})["pictures"][0], first["_pictures"][0])
    same = drawn(seed=3, count=2, truncation=0.0)["_pictures"]
    assert np.array_equal(same[0], same[1])


def test_noise_and_filters_that_are_not_stored_are_made(tmp_path):
    bare = {name: each for name, each in tensors().items() if not name.startswith("noises") and "kernel" not in name}
    style = torch.ones(1, WIDTH)
    made = StyleGan2(bare, "x")
    assert torch.equal(made.pictures(style, 1), made.pictures(style, 1))
    assert not torch.equal(made.pictures(style, 1), made.pictures(style, 2))


def test_what_lacks_a_tensor_is_refused(tmp_path):
    found = tensors()
    del found["convs.1.conv.weight"]
    with pytest.raises(HubError, match=r"convs\.1\.conv\.weight"):
        StyleGan2(found, "x")
    found = tensors()
    del found["convs.1.activate.bias"]
    made = StyleGan2(found, "x")
    with pytest.raises(HubError, match=r"convs\.1\.activate\.bias"):
        made.pictures(torch.ones(1, WIDTH))
