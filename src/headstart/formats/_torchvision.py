"""Build torchvision's networks in PyTorch."""

from __future__ import annotations

import re
from typing import Any

import torch
import torchvision

from headstart.core.backbone import Network
from headstart.formats import _checkpoint, _torchvision_detect
from headstart.formats._heads import Watched, check_names, class_count, last_layer

OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)
"""How the published DenseNets name their tensors: norm.1 for norm1."""


def build(network: Network) -> Any:
    """Return the network with its weights, ready for `network.use`.

    Raises:
        HubError: the weights do not fit.
    """
    found = _checkpoint.tensors(network.weights)
    found = {OLD_DENSENET.sub(r"\1\2", name): each for name, each in found.items()}
    if network.use == "detect":
        return _torchvision_detect.build(network, found)
    module = _classifier(network, found)
    _checkpoint.fit(module, found, network.weights.name)
    module.eval()
    if network.use == "classify":
        check_names(network, last_layer(module)[1].weight.shape[0])
    return Watched(module, network.use, network.pooling)


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
