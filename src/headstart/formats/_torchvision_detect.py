"""torchvision's detectors: for any classes, on a classifier's weights, and their training losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.core.registry import require
from headstart.formats import _checkpoint

torch = require("torch", "torchvision")
torchvision = require("torchvision", "torchvision")

PROBE = (2, 3)
"""Numbers of classes that an architecture is laid out for, to see which tensors depend on it, and how."""
SMALL = {
    "min_size": 320,
    "max_size": 640,
    "rpn_pre_nms_top_n_train": 1000,
    "rpn_post_nms_top_n_train": 500,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_test": 200,
    "box_batch_size_per_image": 128,
}
"""Sides of a picture and proposals of a detector that is built on a classifier: what a CPU can train."""

WIDTH, CELLS = 256, 7
"""Numbers that stand for a proposal in such a detector, and cells of a side that it is looked at in."""


def build(network: Network, found: Mapping[str, Any]) -> Detector:
    """Return a detector with its weights.

    `config` may hold `classes`, how many it is to tell apart, the background with them: where that is another number
    than the weights are for, the layers that depend on it are new. And `backbone`, a classifier's architecture, on
    which a Faster R-CNN is built; the weights are then that classifier's, or the whole detector's.

    Raises:
        HubError: the weights do not fit.
    """
    published = _published(network, found)
    wanted = int(network.config.get("classes") or published or 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _module(network, wanted)
    if network.config.get("without_epsilon"):
        _without_epsilon(module)
    tensors = dict(found)
    if published is None:
        tensors = _on_classifier(network, module, found)
    elif wanted != published:
        own, sized = module.state_dict(), _sized(network)
        tensors |= {name: own[name] for name in sized}
    _checkpoint.fit(module, tensors, network.weights.name)
    return Detector(module.eval())


def _module(network: Network, classes: int) -> Any:
    """Return the architecture with random weights; `classes` 0 is what it is usually for."""
    name = network.config.get("backbone")
    if not name:
        options = {"num_classes": classes} if classes else {}
        return torchvision.models.get_model(
            network.architecture, weights=None, weights_backbone=None, **options, **_sides(network)
        )
    detection, made = torchvision.models.detection, torchvision.models.detection.backbone_utils
    norm = torch.nn.BatchNorm2d
    if str(name).startswith("mobilenet"):
        body = made.mobilenet_backbone(
            backbone_name=name, weights=None, fpn=True, norm_layer=norm, trainable_layers=6, returned_layers=[2, 3, 4]
        )
        sizes: tuple[tuple[int], ...] = ((32,), (64,), (128,), (256,))
    elif str(name).startswith(("resnet", "resnext", "wide_resnet")):
        body = made.resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=norm, trainable_layers=5)
        sizes = ((32,), (64,), (128,), (256,), (512,))
    else:
        raise HubError(
            f"No detector is built on '{name}'.",
            allowed="Faster R-CNN is built on the classifiers of torchvision called resnet…, resnext…, wide_resnet… "
            "and mobilenet….",
        )
    anchors = detection.rpn.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    boxes = detection.faster_rcnn
    return detection.FasterRCNN(
        body,
        rpn_anchor_generator=anchors,
        box_head=boxes.TwoMLPHead(body.out_channels * CELLS * CELLS, WIDTH),
        box_predictor=boxes.FastRCNNPredictor(WIDTH, classes),
        **(SMALL | _sides(network)),
    )


def _sides(network: Network) -> dict[str, int]:
    return {name: int(network.config[name]) for name in ("min_size", "max_size") if network.config.get(name)}


def _sized(network: Network) -> dict[str, tuple[int, int]]:
    """Return the tensors whose length depends on the number of classes: length for none, and for each class more."""
    shapes = []
    with torch.device("meta"):
        for classes in PROBE:
            shapes.append({name: each.shape for name, each in _module(network, classes).state_dict().items()})
    few, more = shapes
    return {
        name: (shape[0] - PROBE[0] * (more[name][0] - shape[0]), more[name][0] - shape[0])
        for name, shape in few.items()
        if more[name] != shape
    }


def _published(network: Network, found: Mapping[str, Any]) -> int | None:
    """Return how many classes the weights are for; None where they are a classifier's, 0 where they do not tell."""
    if network.config.get("backbone") and not any(name.startswith("rpn.") for name in found):
        return None
    for name, (base, step) in _sized(network).items():
        if name in found and len(found[name].shape):
            return (int(found[name].shape[0]) - base) // step
    return 0


def _on_classifier(network: Network, module: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the module's own tensors with those of a classifier's features in their places.

    Raises:
        HubError: none of them fit.
    """
    own = module.state_dict()
    body = {name: name.removeprefix("backbone.body.") for name in own if name.startswith("backbone.body.")}
    # torchvision cuts MobileNets to their features, whose names lose their first part.
    of = {name.removeprefix("features."): name for name in found}
    missing = [
        name
        for name, short in body.items()
        if not name.endswith("num_batches_tracked") and (short not in of or found[of[short]].shape != own[name].shape)
    ]
    if missing:
        raise HubError(
            f"The weights of '{network.weights.name}' do not fit '{network.config['backbone']}'; "
            f"tensors missing or of another shape: {listed(missing, 4)}.",
            hint="Name the architecture that the file was saved from.",
        )
    return own | {name: found[of[short]] for name, short in body.items() if short in of}


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
        self.judges = getattr(module, "roi_heads", module)

    @property
    def threshold(self) -> float:
        """The score above which boxes are kept."""
        return float(self.judges.score_thresh)

    def above(self, pixels: Any, threshold: Any) -> dict[str, Any]:
        """Return boxes (m, 4), scores (m,) and classes (m,) of a picture (1, 3, height, width); can be traced.

        Args:
            threshold: the score above which boxes are kept, a number or a tensor (1,).
        """
        own, self.judges.score_thresh = self.judges.score_thresh, threshold
        try:
            found = self.module([pixels[0]])[0]
        finally:
            self.judges.score_thresh = own
        return {"boxes": found["boxes"], "scores": found["scores"], "classes": found["labels"]}

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return boxes (m, 4), scores (m,), classes (m,) and counts (n,), best first within each picture."""
        found = self.module(list(given["pixels"]))
        return {
            "boxes": torch.cat([each["boxes"] for each in found]),
            "scores": torch.cat([each["scores"] for each in found]),
            "classes": torch.cat([each["labels"] for each in found]),
            "counts": torch.tensor([len(each["scores"]) for each in found]),
        }

    def loss(self, given: Mapping[str, Any]) -> Any:
        """Return the sum () of the network's own losses, of `boxes` (m, 4), `classes` (m,), `counts` (n,), in training.

        `sides` (n, 2) are the heights and widths of pictures that share `pixels` without being of one size.
        """
        counts = given["counts"].tolist()
        boxes, classes = given["boxes"].float().split(counts), given["classes"].long().split(counts)
        pictures = list(given["pixels"])
        if "sides" in given:
            sides = given["sides"].tolist()
            pictures = [each[:, :high, :wide] for each, (high, wide) in zip(pictures, sides, strict=True)]
        targets = [{"boxes": each, "labels": own} for each, own in zip(boxes, classes, strict=True)]
        losses = self.module(pictures, targets)
        return sum(losses.values())
