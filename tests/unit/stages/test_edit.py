"""Edited networks open again as data, and what cannot is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
pytest.importorskip("transformers", reason="transformers is not installed")

from headstart.core.errors import HubError, UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.modalities.text import Text  # noqa: E402
from headstart.stages.edit import edit, edit_file  # noqa: E402
from headstart.stages.networks import fetch, start  # noqa: E402
from headstart.testing.networks import write_bert  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bert(tmp_path):
    return f"local:{write_bert(tmp_path / 'bert', layers=3)}"


def opened(reference, text):
    network = fetch(reference, "", Quiet())
    encoded = Text(["text"]).bind(network).encode({"text": np.array([text], dtype=object)})
    return encoded, {name: start(network, name).session.run(encoded)["embedding"] for name in ("openvino", "torch")}


def test_words_that_are_kept_whole_begin_as_the_mean_of_their_pieces(bert, tmp_path):
    made = edit(bert, tmp_path / "out", tokens=["zebra", "order"])
    encoded, found = opened(made.backbone, "my zebra order")
    network = fetch(made.backbone, "", Quiet())
    assert network.config["vocab_size"] == fetch(bert, "", Quiet()).config["vocab_size"] + 1
    # [UNK] is all that the tokenizer had for it.
    before, plain = opened(bert, "my zebra order")
    assert encoded["ids"][2] != before["ids"][2]
    assert np.allclose(found["openvino"], plain["openvino"], atol=1e-4)
    assert np.allclose(found["torch"], found["openvino"], atol=1e-3)


def test_fewer_layers_and_a_hook(bert, tmp_path):
    seen = []

    def change(module):
        seen.append(len(module.encoder.layer))
        torch.nn.init.zeros_(module.encoder.layer[-1].output.dense.weight)

    made = edit(bert, tmp_path / "out", layers=2, change=change)
    assert seen == [2]
    network = fetch(made.backbone, "", Quiet())
    assert network.config["num_hidden_layers"] == 2
    before = start(fetch(bert, "", Quiet()), "torch").session.trainable().module
    assert made.parameters < sum(each.numel() for each in before.parameters())
    _, found = opened(made.backbone, "my order")
    assert np.allclose(found["torch"], found["openvino"], atol=1e-3)


def test_what_does_not_open_again_is_refused(bert, tmp_path):
    def change(module):
        module.encoder.layer[0].output.dense = torch.nn.Linear(7, 7)

    with pytest.raises(HubError, match="does not open again"):
        edit(bert, tmp_path / "out", change=change)
    assert not (tmp_path / "out").exists()


def test_edits_that_make_no_sense(bert, tmp_path):
    with pytest.raises(UsageError, match="Nothing is to be changed"):
        edit(bert, tmp_path / "out")
    with pytest.raises(UsageError, match="3 layers, and 3 are to stay"):
        edit(bert, tmp_path / "out", layers=3)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="not be overwritten"):
        edit(bert, tmp_path / "out", layers=1)


PICTURE = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)


def seen(reference, format_name="torch", cell=np.stack([PICTURE] * 3, axis=2)):  # noqa: B008
    from headstart.modalities.image import Image

    network = fetch(reference, "", Quiet())
    cells = np.empty(1, object)
    cells[0] = cell
    given = Image.of({"columns": ["image"]}).bind(network).encode({"image": cells})
    return given["pixels"], start(network, format_name).session.run(given)["embedding"][0]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks") / "vit"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"local:{folder}"


def test_grey_pictures_give_what_they_gave_in_three_colours(vit, tmp_path):
    made = edit(vit, tmp_path / "grey", channels=1)
    before, vectors = seen(vit)
    pixels, found = seen(made.backbone)
    assert before.shape == (1, 3, 32, 32) and pixels.shape == (1, 1, 32, 32)
    assert np.allclose(found, vectors, atol=1e-4)
    assert np.allclose(seen(made.backbone, "openvino")[1], found, atol=1e-3)
    again = edit(made.backbone, tmp_path / "again", size=64)
    assert seen(again.backbone)[0].shape == (1, 1, 64, 64)


def test_a_fourth_band_is_read(vit, tmp_path):
    made = edit(vit, tmp_path / "four", channels=4)
    rng = np.random.default_rng(0)
    even = np.repeat(rng.integers(0, 256, (32, 32, 1), np.uint8), 4, axis=2)
    other = even.copy()
    other[..., 3] = 0
    before, vectors = seen(vit, cell=even[..., :3])
    pixels, found = seen(made.backbone, cell=even)
    assert before.shape == (1, 3, 32, 32) and pixels.shape == (1, 4, 32, 32)
    assert np.allclose(pixels[:, :3], before), "colours are not weighed by the fourth band"
    assert np.allclose(found, vectors, atol=1e-4), "of channels that are alike it says what it said"
    changed, without = seen(made.backbone, cell=other)
    assert np.allclose(changed[:, :3], before) and not np.allclose(without, found, atol=1e-3)
    assert np.allclose(seen(made.backbone, "openvino", other)[1], without, atol=1e-3)


def test_what_only_the_fourth_band_shows_is_learnt(vit, tmp_path, monkeypatch):
    from PIL import Image

    import headstart as hs

    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    four, rng = edit(vit, tmp_path / "four", channels=4), np.random.default_rng(0)
    for row in range(80):
        picture = rng.integers(0, 256, (32, 32, 4), np.uint8)
        picture[..., 3] = rng.integers(*((0, 120) if row % 2 else (136, 256)), (32, 32))
        place = tmp_path / "pictures" / ("warm" if row % 2 else "cold") / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place)
    model = hs.fit(tmp_path / "pictures", target="label", backbone=four.backbone, method="probe", out=tmp_path / "m")
    assert model.report["targets"]["label"]["accuracy"] == 1.0
    assert model.predict(str(tmp_path / "pictures/warm/1.png"))["label"] == "warm"


@pytest.mark.parametrize(("size", "shape"), [(64, (64, 64)), ([48, 32], (48, 32))])
def test_other_sides(vit, tmp_path, size, shape):
    made = edit(vit, tmp_path / "out", size=size)
    pixels, found = seen(made.backbone)
    assert pixels.shape[2:] == shape and found.shape == (32,) and np.isfinite(found).all()
    tables = [
        start(fetch(each, "", Quiet()), "torch").session.trainable().module.embeddings.position_embeddings
        for each in (vit, made.backbone)
    ]
    assert tables[1].shape[1] == 1 + shape[0] * shape[1] // 64
    assert torch.equal(tables[0][:, 0], tables[1][:, 0]), "the token for the class has no place"
    assert torch.allclose(tables[0][:, 1:].mean(), tables[1][:, 1:].mean(), atol=0.02)


@pytest.mark.parametrize(("name", "channels"), [("test_vit", 1), ("test_resnet", 1), ("test_resnet", 4)])
def test_networks_of_timm(name, channels, tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5)
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    made = edit(f"timm:{name}", tmp_path / "out", channels=channels, size=96, weights=str(tmp_path / "a.safetensors"))
    assert made.backbone == f"local:{tmp_path / 'out'}" and not made.weights
    pixels, found = seen(made.backbone)
    assert pixels.shape == (1, channels, 96, 96) and np.isfinite(found).all()


def test_what_cannot_be_seen_is_refused(vit, bert, tmp_path):
    for refused, message in (
        ({"size": 60}, "60 × 60 is no multiple"),
        ({"channels": 2}, "channels is 2"),
        ({"size": "large"}, "size is large"),
        ({"size": [32]}, "size is"),
    ):
        with pytest.raises(UsageError, match=message):
            edit(vit, tmp_path / "out", **refused)
    with pytest.raises(UsageError, match="cannot be told"):
        edit(bert, tmp_path / "out", size=64)
    assert not (tmp_path / "out").exists()


def test_a_detector_reads_no_fourth_band(tmp_path):
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.YolosConfig(image_size=[32, 32], patch_size=8, num_detection_tokens=5, **sizes)
    transformers.YolosForObjectDetection(config).save_pretrained(tmp_path / "yolos")
    transformers.YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "yolos")
    with pytest.raises(UsageError, match="detectors read no fourth band"):
        edit(f"local:{tmp_path / 'yolos'}", tmp_path / "out", channels=4)


def test_a_file_of_edits(bert, tmp_path, monkeypatch, capsys):
    from headstart.cli.main import main

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "edit.toml"
    file.write_text(f'backbone = "{bert}"\nout = "short"\nlayers = 2\ntokens = ["IBAN"]\n', encoding="utf-8")
    assert main(["edit", str(file), "--quiet"]) == 0
    assert "headstart fit TABLE --backbone local:short" in capsys.readouterr().out
    network = fetch(f"local:{tmp_path / 'short'}", "", Quiet())
    assert network.config["num_hidden_layers"] == 2
    for text, message in (
        (f'backbone = "{bert}"\nlayer = 2', "has 'layer', which no edit knows"),
        (f'backbone = "{bert}"\nlayers = "2"', "layers in .* is '2'"),
        (f'backbone = "{bert}"\nlayers = true', "layers in .* is True"),
        (f'backbone = "{bert}"\ntokens = [1]', r"tokens in .* is \[1\]"),
        ('out = "x"\nlayers = 2', "does not say 'backbone'"),
        ("backbone = ", "cannot be read as TOML"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message) as wrong:
            edit_file(file)
        if "layer'" in message:
            assert "layers" in wrong.value.hint
    with pytest.raises(UsageError, match="There is no file"):
        edit_file(tmp_path / "none.toml")
