"""Build transformers' networks that read pictures: classes, vectors, and boxes of DETR's family."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.core.backbone import Network
from headstart.formats._boxes import proposed
from headstart.formats._heads import Maps
from headstart.formats._transformers import config_of, load, torch, transformers

KINDS = {"classify": "AutoModelForImageClassification", "detect": "AutoModelForObjectDetection"}
BACKBONE = ("num_batches_tracked",)


def build(network: Network) -> Any:
    """Return the network with its weights, ready for `network.use`.

    Raises:
        HubError: transformers cannot build it, or the weights do not fit.
    """
    auto, needless = getattr(transformers, KINDS.get(network.use, "AutoModel")), ("pooler.", *BACKBONE)
    if network.use == "detect":
        return Detector(_detector(network, auto, needless))
    module = load(network, auto, needless=needless)
    return Classifier(module) if network.use == "classify" else Encoder(module, network.pooling)


def _detector(network: Network, auto: Any, needless: Sequence[str]) -> Any:
    """Return the network for the classes of `network.labels`; layers for other classes than its own are new."""
    config = config_of(network)
    resized = bool(network.labels) and len(network.labels) != config.num_labels
    if resized:
        config.id2label = dict(enumerate(network.labels))
        config.label2id = {name: number for number, name in enumerate(network.labels)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return load(network, auto, needless=needless, config=config, resized=resized)


class Classifier:
    """`pixels` (n, 3, height, width) in, `logits` (n, classes) out."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the logits."""
        return {"logits": self.module(pixel_values=given["pixels"]).logits}


class Encoder:
    """`pixels` (n, 3, height, width) in, `embedding` (n, width) out: what a classifier of its kind would read.

    Args:
        pooling: what of a convolutional network's maps is to stand beside it (`Maps`).
    """

    def __init__(self, module: Any, pooling: Mapping[str, Any]) -> None:
        self.module = module
        self.maps = Maps(module, pooling)
        names = [name for name, _ in module.named_parameters()]
        # A pooler with weights of its own was often not trained: checkpoints of classifiers have none.
        self.pools = not any(name.startswith("pooler.") for name in names)
        self.first = any(name.endswith("cls_token") for name in names)

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pooled map, or the class token, or the mean of the patches."""
        if hasattr(self.module, "get_image_features"):
            found = self.module.get_image_features(pixel_values=given["pixels"])
            return {"embedding": found if isinstance(found, torch.Tensor) else found.pooler_output}
        self.maps.ready(given["pixels"])
        return {"embedding": self.maps.beside(self._pooled(self.module(pixel_values=given["pixels"])))}

    def _pooled(self, out: Any) -> Any:
        pooled = getattr(out, "pooler_output", None)
        if self.pools and pooled is not None:
            return pooled.flatten(1)
        hidden = out.last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        return hidden[:, 0] if self.first else hidden.mean(1)


class Detector:
    """`pixels` (n, 3, height, width) in; boxes in pixels of it, scores, classes and counts out, best first."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.masked = "pixel_mask" in inspect.signature(module.forward).parameters

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every box that the network proposes; most have a low score."""
        out = self.module(pixel_values=given["pixels"])
        logits, boxes = (each.float().detach().cpu().numpy() for each in (out.logits, out.pred_boxes))
        rows, columns = given["pixels"].shape[2:]
        found = proposed(logits, boxes, (rows, columns), self.module.config.model_type)
        return {name: torch.from_numpy(each) for name, each in found.items()}

    def loss(self, given: Mapping[str, Any]) -> Any:
        """Return the network's own training loss (), of `boxes` (m, 4), `classes` (m,) and `counts` (n,).

        `sides` (n, 2) are the heights and widths of pictures that share `pixels` without being of one size.
        """
        pixels, counts = given["pixels"], given["counts"].tolist()
        whole = torch.tensor(pixels.shape[2:], device=pixels.device).expand(len(pixels), 2)
        sides = given.get("sides", whole)
        mask = None
        if "sides" in given:
            rows, columns = (torch.arange(length, device=pixels.device) for length in pixels.shape[2:])
            inside = (rows < sides[:, :1])[:, :, None] & (columns < sides[:, 1:])[:, None]
            mask = inside.long()
        answers = []
        for boxes, classes, side in zip(
            given["boxes"].float().split(counts), given["classes"].long().split(counts), sides, strict=True
        ):
            middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            placed = torch.cat([middle, size], 1) / side.flip(0).repeat(2)
            answers.append({"class_labels": classes, "boxes": placed})
        more = {} if mask is None or not self.masked else {"pixel_mask": mask}
        return self.module(pixel_values=pixels, labels=answers, **more).loss
