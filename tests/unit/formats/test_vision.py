"""Image networks give what their own libraries give, number for number."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.errors import HubError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.hubs.torchvision import Torchvision  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def pixels(side: int = 64, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def run(network, use: str, given: np.ndarray) -> dict[str, np.ndarray]:
    network = replace(network, use=use)
    assert Torch().supports(network) == ""
    return Torch().open(network, "f32", 1).run({"pixels": given})


def fetched(name: str, file, **more):
    return Torchvision().fetch(replace(Backbone.parse(f"torchvision:{name}"), weights=str(file), **more), Quiet())


def classifier(name: str, path, classes: int = 1000):
    """Save a random network's tensors and return it, with batch norms that are not the identity."""
    torch.manual_seed(1)
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options).eval()
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.1)
            each.running_var.uniform_(0.5, 2)
    torch.save(module.state_dict(), path)
    return module


@pytest.mark.parametrize(
    ("name", "side", "before"),
    [
        ("mobilenet_v2", 64, lambda m, x: m.features(x).mean((2, 3))),
        ("squeezenet1_1", 64, lambda m, x: m.features(x).mean((2, 3))),
        ("resnet18", 64, lambda m, x: torch.nn.Sequential(*list(m.children())[:-1])(x).flatten(1)),
        ("densenet121", 64, lambda m, x: torch.relu(m.features(x)).mean((2, 3))),
        ("shufflenet_v2_x0_5", 64, None),
        ("googlenet", 64, None),
    ],
)
def test_torchvision_classifiers(name, side, before, tmp_path):
    module, given = classifier(name, tmp_path / "a.pth"), pixels(side)
    network = fetched(name, tmp_path / "a.pth")
    with torch.no_grad():
        out = module(torch.from_numpy(given))
        assert np.abs(run(network, "classify", given)["logits"] - out.numpy()).max() < 1e-4
        found = run(network, "embed", given)["embedding"]
        assert found.shape == (2, network.backbone.width)
        if before:
            assert np.abs(found - before(module, torch.from_numpy(given)).numpy()).max() < 1e-4


def test_old_names_of_densenets_are_read(tmp_path):
    module, given = classifier("densenet121", tmp_path / "a.pth"), pixels()
    old = {
        re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", name): each
        for name, each in module.state_dict().items()
    }
    assert set(old) != set(module.state_dict())
    torch.save(old, tmp_path / "b.pth")
    with torch.no_grad():
        out = module(torch.from_numpy(given)).numpy()
    assert np.abs(run(fetched("densenet121", tmp_path / "b.pth"), "classify", given)["logits"] - out).max() < 1e-4


def test_a_file_of_other_classes(tmp_path):
    module, given = classifier("resnet18", tmp_path / "a.pth", 3), pixels()
    network = fetched("resnet18", tmp_path / "a.pth")
    assert run(network, "embed", given)["embedding"].shape == (2, 512)
    with pytest.raises(HubError, match="has 3 classes, and 1,000 class names"):
        run(network, "classify", given)
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    network = fetched("resnet18", tmp_path / "a.pth")
    assert network.labels == ["cat", "dog", "owl"]
    with torch.no_grad():
        out = module(torch.from_numpy(given)).numpy()
    assert np.abs(run(network, "classify", given)["logits"] - out).max() < 1e-4


def test_the_wrong_architecture_is_told(tmp_path):
    classifier("resnet18", tmp_path / "a.pth")
    with pytest.raises(HubError, match="do not fit this architecture") as caught:
        run(fetched("resnet34", tmp_path / "a.pth"), "embed", pixels())
    assert "missing" in caught.value.problem


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_torchvision_detectors(name, tmp_path):
    torch.manual_seed(0)
    classes = 91 if name.startswith("ssd") else 4
    options = {"weights": None, "weights_backbone": None, "num_classes": classes}
    module = torchvision.models.get_model(name, **options).eval()
    with torch.no_grad():
        # Random heads find nothing; larger ones find something.
        for key, each in module.named_parameters():
            if "cls" in key or "classification" in key:
                each.normal_(0, 0.2)
    torch.save(module.state_dict(), tmp_path / "a.pth")
    network = fetched(name, tmp_path / "a.pth")
    given = np.random.default_rng(0).uniform(size=(1, 3, 90, 120)).astype(np.float32)
    with torch.no_grad():
        own = module([torch.from_numpy(given[0])])[0]
    ours = run(network, "detect", given)
    assert ours["counts"].tolist() == [len(own["scores"])]
    assert len(own["scores"]) > 0
    assert np.abs(ours["boxes"] - own["boxes"].numpy()).max() < 1e-3
    assert np.abs(ours["scores"] - own["scores"].numpy()).max() < 1e-5
    assert ours["classes"].tolist() == own["labels"].tolist()


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_timm(name, tmp_path):
    timm = pytest.importorskip("timm")
    from headstart.hubs.timm import Timm

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    torch.save({"model": module.state_dict()}, tmp_path / "a.pth")
    network = Timm().fetch(replace(Backbone.parse(f"timm:{name}"), weights=str(tmp_path / "a.pth")), Quiet())
    given = pixels(224, 1)
    with torch.no_grad():
        out = module(torch.from_numpy(given)).numpy()
        before = module.forward_head(module.forward_features(torch.from_numpy(given)), pre_logits=True).numpy()
    assert np.abs(run(network, "classify", given)["logits"] - out).max() < 1e-4
    found = run(network, "embed", given)["embedding"]
    assert found.shape == (1, network.backbone.width)
    assert np.abs(found - before).max() < 1e-4


def saved(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())


def test_transformers_classifiers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "label2id": {"cat": 0, "dog": 1, "owl": 2}}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    vit = transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=32, patch_size=8, **sizes, **labels)
    ).eval()
    network = saved(vit, transformers.ViTImageProcessor(size={"height": 32, "width": 32}), tmp_path / "vit")
    given = pixels(32)
    with torch.no_grad():
        out = vit(torch.from_numpy(given)).logits.numpy()
        hidden = vit.vit(torch.from_numpy(given)).last_hidden_state[:, 0].numpy()
    assert list(network.labels) == ["cat", "dog", "owl"]
    assert np.abs(run(network, "classify", given)["logits"] - out).max() < 1e-4
    assert np.abs(run(network, "embed", given)["embedding"] - hidden).max() < 1e-4
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], **labels)
    resnet = transformers.ResNetForImageClassification(config).eval()
    network = saved(resnet, transformers.ConvNextImageProcessor(), tmp_path / "resnet")
    with torch.no_grad():
        out = resnet(torch.from_numpy(given)).logits.numpy()
        pooled = resnet.resnet(torch.from_numpy(given)).pooler_output.flatten(1).numpy()
    assert np.abs(run(network, "classify", given)["logits"] - out).max() < 1e-4
    found = run(network, "embed", given)["embedding"]
    assert found.shape == (2, network.backbone.width)
    assert np.abs(found - pooled).max() < 1e-4


def test_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(7, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    given = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    own = model.predict(given, verbose=0)
    before = keras.Model(model.inputs, model.layers[-2].output).predict(given, verbose=0)
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        network = Local().fetch(Backbone.parse(f"local:{tmp_path / name}"), Quiet())
        assert (network.backbone.width, network.backbone.uses) == (7, ("classify", "embed"))
        assert np.abs(run(network, "classify", given)["probabilities"] - own).max() < 1e-5
        assert np.abs(run(network, "embed", given)["embedding"] - before).max() < 1e-3
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(HubError, match="holds weights alone"):
        Local().fetch(Backbone.parse(f"local:{tmp_path / 'only.weights.h5'}"), Quiet())


def test_code_within_a_keras_file_needs_trust(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(HubError, match=r"Lambda layer of m\.keras"):
        Local().fetch(Backbone.parse(f"local:{tmp_path / 'm.keras'}"), Quiet())
