"""Pictures from noise and from texts: repeatable, as a grid, and without running anybody's code."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError, UsageError
from headstart.formats.torch import Torch
from headstart.hubs._folder import open_folder
from headstart.hubs._generators import open_generator, tensor_names
from headstart.pipelines.imagine import Imagine, grid
from tests.unit.pipelines import drawings

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared"))


def opened(path):
    backbone = Backbone("local", str(path))
    network = open_folder(path, backbone) if path.is_dir() else open_generator(path, backbone)
    return network, Torch().open(network, "f32", 1)


def drawn(network, session, text="", **options):
    pipeline = Imagine()
    return pipeline.run(network, session, [text], pipeline.settle(options))[0]


def chain(sizes, prefix=""):
    torch.manual_seed(0)
    found = {}
    for number, (into, out) in enumerate(pairwise(sizes)):
        found[f"{prefix}{2 * number}.weight"] = torch.randn(out, into) / 3
        found[f"{prefix}{2 * number}.bias"] = torch.randn(out)
    return found


def test_handwritten_digits(tmp_path):
    path = SHARED / "weights" / "mnist_gan" / "G--300.ckpt"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    network, session = opened(path)
    record = drawn(network, session, seed=1, count=9)
    assert (record["width"], record["height"], len(record["_pictures"])) == (28, 28, 9)
    assert np.array_equal(record["_pictures"], drawn(network, session, seed=1, count=9)["_pictures"])
    pictures = np.stack(record["_pictures"]).astype(float)
    # White strokes on black, in the middle.
    assert pictures[:, :2].mean() < 10
    assert pictures[:, 8:20, 8:20].mean() > 50
    assert ((pictures < 30) | (pictures > 225)).mean() > 0.85
    assert Imagine().write([record], [""], tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (3 * 28 + 2 * 2,) * 2
    assert "seeds 1 to 9" in Imagine().show(record)


def test_a_chain_of_layers_is_told_from_its_tensors(tmp_path):
    path = tmp_path / "G.pth"
    found = chain([5, 7, 3 * 8 * 8], "main.")
    torch.save(found, path)
    _, session = opened(path)
    z = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    pictures = session.run({"z": z})["pictures"]
    hidden = torch.relu(torch.tensor(z) @ found["main.0.weight"].T + found["main.0.bias"])
    wanted = torch.tanh(hidden @ found["main.2.weight"].T + found["main.2.bias"]).reshape(2, 3, 8, 8)
    assert np.abs(pictures.astype(float) - (wanted.permute(0, 2, 3, 1).numpy() + 1) * 127.5).max() <= 0.51
    for stored in (True, False):
        torch.save(found, path, _use_new_zipfile_serialization=stored)
        assert tensor_names(path) == set(found)


def test_convolutions_of_a_dcgan_are_told_from_their_tensors(tmp_path):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(6, 8, 4, 1, 0, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False),
        torch.nn.Tanh(),
    )
    layers.train()(torch.randn(16, 6, 1, 1))
    torch.save({f"main.{name}": each for name, each in layers.state_dict().items()}, tmp_path / "netG.pth")
    _, session = opened(tmp_path / "netG.pth")
    z = torch.randn(2, 6)
    with torch.no_grad():
        wanted = (layers.eval()(z[:, :, None, None]).permute(0, 2, 3, 1).numpy() + 1) * 127.5
    pictures = session.run({"z": z.numpy()})["pictures"]
    assert pictures.shape == (2, 16, 16, 3)
    assert np.abs(pictures.astype(float) - wanted).max() <= 0.51


def test_what_draws_no_picture_is_refused_or_left_to_others(tmp_path):
    torch.save(chain([5, 7, 10]), tmp_path / "classes.pth")
    with pytest.raises(HubError, match="10 numbers"):
        opened(tmp_path / "classes.pth")
    torch.save({"layer1.conv.weight": torch.zeros(2), "fc.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
    (tmp_path / "broken.pth").write_bytes(b"\x80\x02nonsense")
    for name in ("resnet.pth", "broken.pth"):
        assert open_generator(tmp_path / name, Backbone("local", name)) is None


def test_a_grid_has_a_row_for_each_text():
    picture = np.zeros((3, 4, 3), np.uint8)
    assert grid([[picture] * 5]).shape == (2 * 5 - 2, 3 * 6 - 2, 3)
    assert grid([[picture] * 2, [picture] * 2, [picture] * 2]).shape == (3 * 5 - 2, 2 * 6 - 2, 3)
    assert grid([[picture]]).shape == (3, 4, 3)
    whole = grid([[picture] * 2])
    assert whole[:, 4:6].min() == 255
    assert whole[:, :4].max() == whole[:, 6:].max() == 0


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 10_000}, {"seed": -1}, {"steps": 0}])
def test_options_out_of_range_are_refused(options, tmp_path):
    torch.save(chain([5, 64]), tmp_path / "G.pth")
    with pytest.raises(UsageError):
        drawn(*opened(tmp_path / "G.pth"), **options)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    pytest.importorskip("diffusers")
    return drawings.write_stable_diffusion(tmp_path_factory.mktemp("sd"))


def test_a_text_becomes_the_picture_that_the_library_draws(diffusion):
    diffusers = pytest.importorskip("diffusers")
    network, session = opened(diffusion)
    assert (network.library, network.backbone.modality) == ("diffusers", "text")
    first = drawn(network, session, "a b c", seed=5, count=2, steps=2, guidance=3.0)
    again = drawn(network, session, "a b c", seed=6, steps=2, guidance=3.0)
    assert np.array_equal(first["_pictures"][1], again["_pictures"][0])
    other = drawn(network, session, "g g g", seed=6, steps=2, guidance=3.0)
    assert not np.array_equal(other["_pictures"][0], again["_pictures"][0])
    own = diffusers.StableDiffusionPipeline.from_pretrained(diffusion, safety_checker=None)
    own.set_progress_bar_config(disable=True)
    made = own(
        "a b c", num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator().manual_seed(6), output_type="np"
    ).images[0]
    assert np.array_equal((made * 255).round().astype(np.uint8), again["_pictures"][0])


def test_unclip_draws_with_its_own_steps(tmp_path):
    pytest.importorskip("diffusers")
    network, session = opened(drawings.write_unclip(tmp_path))
    assert network.architecture == "UnCLIPPipeline"
    first, again = (drawn(network, session, "a b", seed=2, steps=2, guidance=2.0) for _ in range(2))
    assert first["_pictures"][0].shape == (32, 32, 3)
    assert np.array_equal(first["_pictures"], again["_pictures"])
    assert not np.array_equal(first["_pictures"], drawn(network, session, "g", seed=2, steps=2)["_pictures"])


def test_a_pipeline_that_brings_code_is_not_run(diffusion, tmp_path):
    network, _ = opened(diffusion)
    index = json.loads((diffusion / "model_index.json").read_text())
    for change in ({"_class_name": "MyPipeline"}, {"unet": ["my_unet", "Unet"]}):
        folder = tmp_path / next(iter(change))
        folder.mkdir()
        for each in diffusion.iterdir():
            (folder / each.name).symlink_to(each) if each.name != "model_index.json" else None
        (folder / "model_index.json").write_text(json.dumps(index | change))
        (folder / "my_unet").mkdir()
        (folder / "my_unet" / "my_unet.py").write_text("raise SystemExit('run')")
        with pytest.raises(HubError, match="trust-remote-code"):
            Torch().open(replace(network, folder=folder), "f32", 1)
