"""Learn to find things in pictures: boxes with labels, judged as COCO judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, final

from headstart.core.backbone import Network
from headstart.core.dataset import Dataset, is_blank
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.objective import Objective
from headstart.core.source import Table
from headstart.modalities.image import Image
from headstart.objectives._average_precision import measured
from headstart.objectives._marked import Boxes, boxes_of, is_flat

BACKGROUND = "__background__"
"""The first class of torchvision's detectors, which stands for nothing."""
SAMPLE = 200
"""Cells that are looked at to find the column of boxes."""
REGIONS = {"epochs": 20, "batch": 4, "rate": 3e-4, "decay": 0.8, "average": 0.998, "patience": 6, "clip": 10.0}
"""Settings of `training/plan.py` for detectors of torchvision."""
TRANSFORMERS = {"epochs": 40, "batch": 4, "rate": 1e-4, "decay": 0.8, "patience": 12, "clip": 0.1}
"""Settings of `training/plan.py` for DETR's family."""
FROM_CLASSIFIER = {"size": None, "scale": 1 / 255, "mean": None, "std": None}
"""A detector of torchvision scales and normalises by itself."""


@final
@dataclass(frozen=True)
class Detect(Objective):
    """Boxes of known labels: `{"label": …, "box": [left, top, right, bottom]}` in pixels of the upright picture.

    Args:
        labels: what is looked for, sorted.
        names: the columns of pictures and of boxes.
        flat: boxes without an area, which are left out of the training rows.
    """

    labels: Sequence[str]
    names: tuple[str, str]
    flat: int = 0

    primary = "map"
    defaults = MappingProxyType(
        {"epochs": 20, "batch": 8, "rate": 1e-3, "decay": 1.0, "average": 0.998, "patience": 6, "clip": 10.0}
    )
    options = MappingProxyType({"threshold": 0.01})
    """Boxes of low scores count too when precision is averaged over all of them."""

    @classmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> Detect:
        """Find the columns and the labels.

        Raises:
            DataError: there is no column of boxes, or of pictures, or no box.
        """
        target = columns.get("target") or _column_of_boxes(dataset)
        pictures = [*dataset.inputs.get("image", []), *(["image"] if "image" in dataset.table else [])]
        if not columns.get("input") and not pictures:
            raise DataError(
                f"There is no column of pictures in {dataset.origin or 'the table'}.",
                allowed="A column of files of pictures, and one of boxes.",
                hint="Name it with --input.",
            )
        cells = dataset.column(target)
        boxes = [each for row in train for each in boxes_of(cells[row], target, row) or []]
        labels = sorted({str(each["label"]) for each in boxes if not is_flat(each)})
        if not labels:
            raise DataError(
                f"There is no box in the column '{target}' of the rows to learn from.",
                allowed='A cell holds boxes such as [{"label": "dog", "box": [10, 20, 110, 220]}].',
            )
        dataset.column(columns.get("input") or pictures[0])
        return cls(labels, (columns.get("input") or pictures[0], target), sum(map(is_flat, boxes)))

    @property
    def columns(self) -> tuple[str, str]:
        """The column of pictures, and that of boxes."""
        return self.names

    def settings(self) -> dict[str, Any]:
        """Return the labels, the columns, and how many boxes were left out."""
        return {"labels": list(self.labels), "columns": list(self.names), "boxes_without_an_area": self.flat}

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> Detect:
        """Make the objective again from its settings."""
        return cls(settings["labels"], tuple(settings["columns"]), settings["boxes_without_an_area"])

    def unable(self, network: Network) -> str:
        """Return an empty string, or why the network as it is cannot find these labels."""
        if "detect" not in network.backbone.uses:
            return "it was not made to find boxes"
        missing = [each for each in self.labels if each not in network.labels]
        return f"it does not know {listed(missing, 4)}" if missing else ""

    def unusable(self, table: Table, learning: bool = True) -> dict[int, str]:
        """Return the rows that are of no use, with the reason: no readable picture, or nobody marked it.

        A picture with an empty list of boxes is of use: there is nothing to be found on it.
        """
        return super().unusable(table, learning) | Image([self.names[0]]).unreadable(table)

    def ready(self, network: Network) -> dict[str, Any]:
        """Return the fields of the network that differ: its labels, and how many classes its last layers have.

        A graph of YOLOX is to be opened with PyTorch (`library`). On a classifier of torchvision a Faster R-CNN is
        built (`architecture`).

        Raises:
            UsageError: it is no network that can learn to find boxes.
        """
        if network.library == "onnx" and network.config.get("layout") == "yolox":
            config = {**network.config, "classes": len(self.labels), "fixed": False}
            return {"labels": list(self.labels), "library": "yolox", "config": config, "use": "detect"}
        if network.library == "torchvision":
            return self._for_torchvision(network)
        if network.library in ("yolox", "transformers") and "detect" in network.backbone.uses:
            own = network.library == "yolox"
            config = {**network.config, **({"classes": len(self.labels)} if own else self._named())}
            return {"labels": list(self.labels), "config": config, "use": "detect"}
        raise UsageError(
            f"'{network.backbone.reference}' cannot learn to find boxes.",
            allowed="Detectors of torchvision and of transformers (DETR's family), YOLOX as an ONNX graph, and "
            "classifiers of torchvision (ResNet, MobileNet), which a Faster R-CNN is built on.",
            hint="For example: --backbone local:yolox_nano.onnx",
        )

    def _named(self) -> dict[str, Any]:
        """Return what a `config.json` of transformers says of the classes."""
        numbered = {str(number): label for number, label in enumerate(self.labels)}
        return {"id2label": numbered, "label2id": {label: int(number) for number, label in numbered.items()}}

    def _for_torchvision(self, network: Network) -> dict[str, Any]:
        labels = [BACKGROUND, *self.labels]
        made: dict[str, Any] = {"labels": labels, "use": "detect"}
        config = {**network.config, "classes": len(labels)}
        if "detect" in network.backbone.uses:
            return made | {"config": config}
        return made | {
            "architecture": "fasterrcnn",
            "config": config | {"backbone": network.architecture},
            "preprocessing": dict(FROM_CLASSIFIER),
            "backbone": replace(network.backbone, uses=("detect",), width=0, accuracy=0.0),
        }

    def plan(self, network: Network) -> Mapping[str, Any]:
        """Return the settings of training that suit the network's kind."""
        return {"torchvision": REGIONS, "transformers": TRANSFORMERS}.get(network.library, self.defaults)

    def examples(self, network: Network, table: Table, seed: int) -> Boxes:
        """Return pictures and boxes as the network reads them."""
        return Boxes(self.names, network, table, seed)

    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return `map`, `map50`, `map75` and each label's own (`classes`), over the rows that somebody marked.

        Raises:
            MissingExtra: pycocotools is not installed.
        """
        pairs = [
            (answer, record.get("boxes") or [])
            for record, answer in zip(records, self.answers(table), strict=True)
            if answer is not None
        ]
        known = [answer for answer, _ in pairs]
        count = sum(map(len, known))
        return {
            **measured(known, [found for _, found in pairs], self.labels),
            "pictures": len(pairs),
            "boxes": count,
        }

    def answers(self, table: Table) -> list[list[dict[str, Any]] | None]:
        """Return each row's boxes that have an area; None where nobody marked it."""
        name = self.names[1]
        read = [boxes_of(cell, name, row) for row, cell in enumerate(table[name])]
        return [None if row is None else [each for each in row if not is_flat(each)] for row in read]


def _column_of_boxes(dataset: Dataset) -> str:
    found = [name for name, cells in dataset.table.items() if _are_boxes(cells[:SAMPLE])]
    if len(found) != 1:
        what = f"{len(found)} columns hold boxes: {listed(found)}" if found else "No column holds boxes"
        raise DataError(
            f"{what}, in {dataset.origin or 'the table'}.",
            allowed="A folder in COCO's, Pascal VOC's or YOLO's layout, or a table with a column of boxes: "
            '[{"label": "dog", "box": [10, 20, 110, 220]}].',
            hint="Name it with --target." if found else "",
        )
    return found[0]


def _are_boxes(cells: Sequence[Any]) -> bool:
    filled = [cell for cell in cells if not is_blank(cell)]
    try:
        read = [boxes_of(cell, "", 0) for cell in filled]
    except DataError:
        return False
    return any(read)
