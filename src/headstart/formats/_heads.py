"""The last layer of an image network: what goes into it is the network's vector."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.registry import require

TEXTURED = 3
"""Maps whose textures are looked at."""


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


class Maps:
    """Maps on a convolutional network's way, each the last before the resolution is halved, beside its vector.

    Its end sees the whole; the maps see parts and textures, and a small flaw that a mean over the whole forgets. A
    head on both often tells more classes apart.

    Args:
        module: the network.
        pooling: `layers` is 2 where the mean of the last such map is to stand beside the vector; `textures` where the
            mean, spread and maximum of the last three are to.
    """

    def __init__(self, module: Any, pooling: Mapping[str, Any]) -> None:
        self.module = module
        self.textures = bool(pooling.get("textures"))
        self.depths = TEXTURED if self.textures else int(pooling.get("layers", 1)) - 1
        self.hooked = self.depths < 1
        self.seen: dict[int, Any] = {}

    def ready(self, pixels: Any) -> None:
        """Find the layers that give the maps, by one run on one picture."""
        if self.hooked:
            return
        self.hooked = True
        sides: dict[int, Any] = {}
        hooks = [
            layer.register_forward_hook(lambda layer, given, out: _note(sides, layer, out))
            for layer in self.module.modules()
            if not list(layer.children())
        ]
        self.module(pixels[:1])
        for hook in hooks:
            hook.remove()
        for side in sorted(side for side in sides if side > 1)[1 : 1 + self.depths]:
            sides[side].register_forward_hook(partial(self._see, side))

    def _see(self, side: int, layer: Any, given: Any, out: Any) -> None:
        self.seen[side] = out

    def beside(self, vector: Any) -> Any:
        """Return the vector (n, width) with what the maps say after it, each of unit length; alone without maps."""
        seen, self.seen = self.seen, {}
        if not seen:
            return vector
        torch = require("torch", "torch")
        parts = [vector]
        for _, each in sorted(seen.items()):
            parts.append(each.mean((2, 3)))
            if self.textures:
                # Of a map that is the same all over, the root alone would have no slope to train by.
                parts += [(each.var((2, 3), correction=0) + 1e-12).sqrt(), each.amax((2, 3))]
        return torch.cat([torch.nn.functional.normalize(each) for each in parts], dim=1)


def _note(sides: dict[int, Any], layer: Any, out: Any) -> None:
    if getattr(out, "ndim", 0) == 4:
        sides[int(out.shape[2])] = layer


class Watched:
    """A network whose last layer's input is kept as it passes.

    Args:
        module: ends in a layer that gives classes.
        use: `embed` or `classify`.
        pooling: what of its maps is to stand beside its vector (`Maps`).
    """

    def __init__(self, module: Any, use: str, pooling: Mapping[str, Any]) -> None:
        self.module, self.use = module, use
        self.maps = Maps(module, pooling)
        self.seen: Any = None
        if use == "embed":
            last_layer(module)[1].register_forward_pre_hook(self._see)

    def _see(self, layer: Any, given: tuple[Any, ...]) -> None:
        self.seen = given[0]

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `logits` (n, classes), or `embedding` (n, width): the last layer's input, pooled where it is a map."""
        self.maps.ready(given["pixels"])
        logits = self.module(given["pixels"])
        if self.use == "classify":
            return {"logits": logits}
        seen, self.seen = self.seen, None
        return {"embedding": self.maps.beside(seen.mean((2, 3)) if seen.ndim == 4 else seen.flatten(1))}
