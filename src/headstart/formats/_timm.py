"""Build timm's networks in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import timm
import torch

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats import _checkpoint
from headstart.formats._heads import Maps, check_names, class_count


def build(network: Network) -> Any:
    """Return the network with its weights, ready for `network.use`.

    Raises:
        HubError: timm does not know the architecture, or the weights do not fit.
    """
    name = network.architecture
    if not timm.is_model(name):
        raise HubError(f"timm {timm.__version__} has no architecture '{name}'.", hint="Another version may have it.")
    found = _checkpoint.tensors(network.weights)
    arguments = dict(network.config.get("model_args") or {})
    classes = _classes(network, found, arguments)
    # The tensors go through timm's own renaming of old and foreign checkpoints, and nothing is fetched.
    overlay = {"state_dict": found, "num_classes": classes, "source": "", "custom_load": False, "label_offset": None}
    try:
        module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **arguments
        )
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HubError(
            f"The weights of '{network.weights.name}' do not fit timm's '{name}': {' '.join(lines)[:300]}",
            hint="Name the architecture that the file was saved from.",
        ) from error
    module.pretrained_cfg.pop("state_dict", None)
    if network.use == "classify":
        check_names(network, classes)
    return Timm(module.eval(), network.use, network.pooling)


def _classes(network: Network, found: Mapping[str, Any], arguments: Mapping[str, Any]) -> int:
    """Return for how many classes the file has a head."""
    told = int(network.config.get("num_classes") or 0)
    try:
        with torch.device("meta"):
            head = timm.create_model(network.architecture, pretrained=False, **arguments).pretrained_cfg["classifier"]
    except (NotImplementedError, RuntimeError, KeyError):
        return told
    return class_count(found, head) or told if isinstance(head, str) else told


@final
class Timm:
    """A timm network: `pixels` in; `logits` (n, classes), or `embedding` (n, width), what its head would read."""

    def __init__(self, module: Any, use: str, pooling: Mapping[str, Any]) -> None:
        self.module, self.use = module, use
        self.maps = Maps(module, pooling)

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs that the use asks for."""
        if self.use == "classify":
            return {"logits": self.module(given["pixels"])}
        self.maps.ready(given["pixels"])
        features = self.module.forward_features(given["pixels"])
        return {"embedding": self.maps.beside(self.module.forward_head(features, pre_logits=True).flatten(1))}
