"""Build torchvision's networks in PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, final

import torch
import torchvision

from headstart.core.backbone import Network
from headstart.formats import _checkpoint
from headstart.formats._heads import Watched, check_names, class_count, last_layer

OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)
"""How the published DenseNets name their tensors: norm.1 for norm1."""
DETECTED = ("roi_heads.box_predictor.cls_score.weight", "head.classification_head.cls_logits.weight")


def build(network: Network) -> Any:
    """Return the network with its weights, ready for `network.use`.

    Raises:
        HubError: the weights do not fit.
    """
    found = _checkpoint.tensors(network.weights)
    found = {OLD_DENSENET.sub(r"\1\2", name): each for name, each in found.items()}
    if network.use == "detect":
        return Detector(_detector(network, found))
    module = _classifier(network, found)
    _checkpoint.fit(module, found, network.weights.name)
    module.eval()
    if network.use == "classify":
        check_names(network, last_layer(module)[1].weight.shape[0])
    return Watched(module, network.use, network.pooling.get("layers", 1))


def _classifier(network: Network, found: dict[str, Any]) -> Any:
    options: dict[str, Any] = {}
    if network.architecture in ("inception_v3", "googlenet"):
        # The auxiliary heads are for training only; a file may have been saved with them or without.
        prefix = "AuxLogits." if network.architecture == "inception_v3" else "aux"
        for name in [each for each in found if each.startswith(prefix)]:
            del found[name]
        options = {"aux_logits": False, "init_weights": False}
        options["transform_input"] = bool(network.config.get("transform_input"))
    with torch.device("meta"):
        name = last_layer(torchvision.models.get_model(network.architecture, weights=None, **options))[0]
    classes = class_count(found, name)
    if classes:
        options["num_classes"] = classes
    return torchvision.models.get_model(network.architecture, weights=None, **options)


def _detector(network: Network, found: Mapping[str, Any]) -> Any:
    name = network.architecture
    options: dict[str, Any] = {"weights_backbone": None}
    if DETECTED[0] in found:
        options["num_classes"] = int(found[DETECTED[0]].shape[0])
    elif name.startswith("fcos") and DETECTED[1] in found:
        options["num_classes"] = int(found[DETECTED[1]].shape[0])
    elif not name.startswith(("ssd", "fcos")) and DETECTED[1] in found:
        with torch.device("meta"):
            anchors = torchvision.models.get_model(name, weights=None, **options).anchor_generator
        options["num_classes"] = int(found[DETECTED[1]].shape[0]) // anchors.num_anchors_per_location()[0]
    module = torchvision.models.get_model(name, weights=None, **options)
    if network.config.get("without_epsilon"):
        _without_epsilon(module)
    _checkpoint.fit(module, found, network.weights.name)
    return module.eval()


def _without_epsilon(module: Any) -> None:
    """Add nothing to the variance in its batch norms, as the weights were published for."""
    for each in module.backbone.modules():
        if isinstance(each, torch.nn.BatchNorm2d | torchvision.ops.FrozenBatchNorm2d):
            each.eps = 0.0


@final
class Detector:
    """A torchvision detector: one box list for each picture, of its own non-maximum suppression."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return boxes (m, 4), scores (m,), classes (m,) and counts (n,), best first within each picture."""
        found = self.module(list(given["pixels"]))
        return {
            "boxes": torch.cat([each["boxes"] for each in found]),
            "scores": torch.cat([each["scores"] for each in found]),
            "classes": torch.cat([each["labels"] for each in found]),
            "counts": torch.tensor([len(each["scores"]) for each in found]),
        }
