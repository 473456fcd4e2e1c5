"""The last layer of an image network: what goes into it is the network's vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.registry import require


def last_layer(module: Any) -> tuple[str, Any]:
    """Return the name and the layer that gives a network's classes: its last linear one, else its last convolution."""
    torch = require("torch", "torch")
    for kind in (torch.nn.Linear, torch.nn.Conv2d):
        found = [(name, each) for name, each in module.named_modules() if isinstance(each, kind)]
        if found:
            return found[-1]
    raise TypeError(f"{type(module).__name__} has no layer that gives classes.")


def class_count(found: Mapping[str, Any], name: str) -> int:
    """Return how many classes the tensors of the last layer `name` are for; 0 where there are none."""
    weight = found.get(f"{name}.weight")
    return int(weight.shape[0]) if weight is not None else 0


def check_names(network: Network, classes: int) -> None:
    """Refuse to give classes the names of other classes.

    Raises:
        HubError: there are more or fewer names than classes.
    """
    if network.labels and len(network.labels) != classes:
        raise HubError(
            f"'{network.weights.name}' has {classes:,} classes, and {len(network.labels):,} class names are known.",
            hint=f"Put the names into '{network.folder / 'labels.txt'}', one a line, in the order of the classes.",
        )


class Middle:
    """The last map of a network before its resolution is halved for the last time, beside the vector at its end.

    It sees parts and textures where the end sees the whole; a small head on both often tells more classes apart.
    """

    def __init__(self, module: Any, wanted: bool) -> None:
        self.module, self.wanted = module, wanted
        self.seen: Any = None

    def ready(self, pixels: Any) -> None:
        """Find the layer that gives the map, by one run on one picture."""
        if not self.wanted:
            return
        self.wanted = False
        sides: dict[int, Any] = {}
        hooks = [
            layer.register_forward_hook(lambda layer, given, out: _note(sides, layer, out))
            for layer in self.module.modules()
            if not list(layer.children())
        ]
        self.module(pixels[:1])
        for hook in hooks:
            hook.remove()
        maps = sorted(side for side in sides if side > 1)
        if len(maps) > 1:
            sides[maps[1]].register_forward_hook(self._see)

    def _see(self, layer: Any, given: Any, out: Any) -> None:
        self.seen = out

    def beside(self, vector: Any) -> Any:
        """Return the vector (n, width) with the map's mean after it, each of unit length; alone where there is none."""
        if self.seen is None:
            return vector
        seen, self.seen = self.seen, None
        torch = require("torch", "torch")
        return torch.cat([torch.nn.functional.normalize(each) for each in (vector, seen.mean((2, 3)))], dim=1)


def _note(sides: dict[int, Any], layer: Any, out: Any) -> None:
    if getattr(out, "ndim", 0) == 4:
        sides[int(out.shape[2])] = layer


class Watched:
    """A network whose last layer's input is kept as it passes.

    Args:
        module: ends in a layer that gives classes.
        use: `embed` or `classify`.
        layers: 2 where the vector is to have a map from the middle of the network beside it.
    """

    def __init__(self, module: Any, use: str, layers: int = 1) -> None:
        self.module, self.use = module, use
        self.middle = Middle(module, layers > 1)
        self.seen: Any = None
        if use == "embed":
            last_layer(module)[1].register_forward_pre_hook(self._see)

    def _see(self, layer: Any, given: tuple[Any, ...]) -> None:
        self.seen = given[0]

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `logits` (n, classes), or `embedding` (n, width): the last layer's input, pooled where it is a map."""
        self.middle.ready(given["pixels"])
        logits = self.module(given["pixels"])
        if self.use == "classify":
            return {"logits": logits}
        seen, self.seen = self.seen, None
        return {"embedding": self.middle.beside(seen.mean((2, 3)) if seen.ndim == 4 else seen.flatten(1))}
