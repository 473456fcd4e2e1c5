"""YOLOX's layers in the order in which they run, written once: for PyTorch, for OpenVINO, and for reading its weights.

Ge et al. 2021 (arXiv:2107.08430): a CSPDarknet, a pyramid that goes up and down again, and at each of its three levels
a head that keeps classes, boxes and "is there anything" apart, with no anchors. Batch norms are folded into the
convolutions, as exported graphs have them; a network of little data would keep them frozen anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

STRIDES = (8, 16, 32)
POOLS = (5, 9, 13)


@dataclass(frozen=True)
class Size:
    """How large a YOLOX is.

    Args:
        width: its share of the channels of the largest usual one.
        depth: blocks in each of its shorter stages.
        depthwise: whether each 3 x 3 convolution is a depthwise one and a 1 x 1.
    """

    width: float
    depth: int
    depthwise: bool


SIZES = {
    "yolox_nano": Size(0.25, 1, True),
    "yolox_tiny": Size(0.375, 1, False),
    "yolox_s": Size(0.5, 1, False),
    "yolox_m": Size(0.75, 2, False),
    "yolox_l": Size(1.0, 3, False),
    "yolox_x": Size(1.25, 4, False),
}
"""The published sizes; each has another number of channels in its first layer."""


class Ops(Protocol):
    """What runs the layers: each method takes and returns feature maps, whatever they are to it."""

    def convolve(
        self, x: Any, name: str, outputs: int, kernel: int = 1, *, stride: int = 1, each: bool = False,
        plain: bool = False,
    ) -> Any:  # fmt: skip
        """Convolve, with SiLU behind it unless `plain`; `each` channel by itself where it is a depthwise one."""

    def patches(self, x: Any) -> Any:
        """Put the four pixels of each 2 x 2 square behind one another: left above, left below, right above, below."""

    def pool(self, x: Any, kernel: int) -> Any:
        """Return the largest value around each place."""

    def double(self, x: Any) -> Any:
        """Repeat each value in a square of 2 x 2."""

    def join(self, parts: list[Any]) -> Any:
        """Put the channels of several maps behind one another."""

    def add(self, x: Any, y: Any) -> Any:
        """Add two maps."""


def run(ops: Ops, pixels: Any, size: Size, classes: int) -> list[tuple[Any, Any, Any]]:
    """Return for each level, fine to coarse, maps of boxes (4), of "is anything there" (1) and of classes: logits."""
    own = _Layers(ops, size)
    fine, middle, coarse = own.backbone(pixels)
    return [own.head(level, each, classes) for level, each in enumerate(own.neck(fine, middle, coarse))]


@dataclass(frozen=True)
class _Layers:
    ops: Ops
    size: Size

    def _channels(self, full: int) -> int:
        return int(full * self.size.width)

    def _three(self, x: Any, name: str, outputs: int, stride: int = 1) -> Any:
        if not self.size.depthwise:
            return self.ops.convolve(x, name, outputs, 3, stride=stride)
        return self.ops.convolve(
            self.ops.convolve(x, f"{name}.each", 0, 3, stride=stride, each=True), f"{name}.mix", outputs
        )

    def _stage(self, x: Any, name: str, outputs: int, depth: int, shortcut: bool) -> Any:
        """Run a cross stage partial block: half of the channels pass `depth` bottlenecks, half none."""
        main = self.ops.convolve(x, f"{name}.main", outputs // 2)
        short = self.ops.convolve(x, f"{name}.short", outputs // 2)
        for number in range(depth):
            inner = self.ops.convolve(main, f"{name}.blocks.{number}.narrow", outputs // 2)
            inner = self._three(inner, f"{name}.blocks.{number}.wide", outputs // 2)
            main = self.ops.add(inner, main) if shortcut else inner
        return self.ops.convolve(self.ops.join([main, short]), f"{name}.joined", outputs)

    def backbone(self, pixels: Any) -> tuple[Any, Any, Any]:
        ops, depth = self.ops, self.size.depth
        x = ops.convolve(ops.patches(pixels), "backbone.stem", self._channels(64), 3)
        x = self._three(x, "backbone.stage2.down", self._channels(128), 2)
        x = self._stage(x, "backbone.stage2.csp", self._channels(128), depth, True)
        x = self._three(x, "backbone.stage3.down", self._channels(256), 2)
        fine = self._stage(x, "backbone.stage3.csp", self._channels(256), 3 * depth, True)
        x = self._three(fine, "backbone.stage4.down", self._channels(512), 2)
        middle = self._stage(x, "backbone.stage4.csp", self._channels(512), 3 * depth, True)
        x = self._three(middle, "backbone.stage5.down", self._channels(1024), 2)
        x = ops.convolve(x, "backbone.stage5.pools.narrow", self._channels(1024) // 2)
        x = ops.join([x, *(ops.pool(x, kernel) for kernel in POOLS)])
        x = ops.convolve(x, "backbone.stage5.pools.joined", self._channels(1024))
        return fine, middle, self._stage(x, "backbone.stage5.csp", self._channels(1024), depth, False)

    def neck(self, fine: Any, middle: Any, coarse: Any) -> tuple[Any, Any, Any]:
        ops, depth = self.ops, self.size.depth
        low = ops.convolve(coarse, "neck.narrow5", self._channels(512))
        x = ops.join([ops.double(low), middle])
        x = self._stage(x, "neck.up4", self._channels(512), depth, False)
        mid = ops.convolve(x, "neck.narrow4", self._channels(256))
        x = ops.join([ops.double(mid), fine])
        first = self._stage(x, "neck.up3", self._channels(256), depth, False)
        x = ops.join([self._three(first, "neck.down3", self._channels(256), 2), mid])
        second = self._stage(x, "neck.out4", self._channels(512), depth, False)
        x = ops.join([self._three(second, "neck.down4", self._channels(512), 2), low])
        return first, second, self._stage(x, "neck.out5", self._channels(1024), depth, False)

    def head(self, level: int, x: Any, classes: int) -> tuple[Any, Any, Any]:
        name, width, ops = f"head.level{level}", self._channels(256), self.ops
        x = ops.convolve(x, f"{name}.stem", width)
        of_class = self._three(self._three(x, f"{name}.class1", width), f"{name}.class2", width)
        shares = ops.convolve(of_class, f"{name}.classes", classes, plain=True)
        of_box = self._three(self._three(x, f"{name}.box1", width), f"{name}.box2", width)
        boxes = ops.convolve(of_box, f"{name}.boxes", 4, plain=True)
        return boxes, ops.convolve(of_box, f"{name}.something", 1, plain=True), shares


@dataclass(frozen=True)
class Convolution:
    """One convolution: its name, and its weights' shape (outputs, inputs of a group, kernel, kernel)."""

    name: str
    shape: tuple[int, int, int, int]
    stride: int = 1

    @property
    def groups(self) -> int:
        """Return 1, or the number of channels where each is convolved by itself."""
        return self.shape[0] if self.shape[1] == 1 else 1


class _Counted:
    """Counts channels in place of running anything, and notes the convolutions."""

    def __init__(self) -> None:
        self.found: list[Convolution] = []

    def convolve(
        self, x: int, name: str, outputs: int, kernel: int = 1, *, stride: int = 1, each: bool = False,
        plain: bool = False,
    ) -> int:  # fmt: skip
        shape = (x, 1, kernel, kernel) if each else (outputs, x, kernel, kernel)
        self.found.append(Convolution(name, shape, stride))
        return shape[0]

    def patches(self, x: int) -> int:
        return 4 * x

    def pool(self, x: int, kernel: int) -> int:
        return x

    def double(self, x: int) -> int:
        return x

    def join(self, parts: list[int]) -> int:
        return sum(parts)

    def add(self, x: int, y: int) -> int:
        return x


def convolutions(size: Size, classes: int) -> list[Convolution]:
    """Return all convolutions in the order in which they run.

    >>> [each.shape for each in convolutions(SIZES["yolox_nano"], 80)[:3]]
    [(16, 12, 3, 3), (16, 1, 3, 3), (32, 16, 1, 1)]
    """
    counted = _Counted()
    run(counted, 3, size, classes)
    return counted.found


def is_class_layer(name: str) -> bool:
    """Return whether a convolution or tensor of that name is one of those that give the classes."""
    return ".classes" in name
