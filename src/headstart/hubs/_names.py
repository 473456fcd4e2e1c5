"""Names of the classes that most published networks know: ImageNet's from an installed library, COCO's from here."""

from __future__ import annotations

import importlib
from functools import cache

from headstart.core.errors import HubError

BACKGROUND = "background"
_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = tuple(_COCO.split(","))
"""The 80 classes of COCO, in the order that YOLO networks number them."""


def known(classes: int) -> list[str]:
    """Return the usual names of that many classes: 1,000 are ImageNet's, 80 are COCO's; else nothing."""
    if classes == len(COCO):
        return list(COCO)
    if classes in (1000, 1001):
        names = imagenet()
        return [BACKGROUND, *names] if names and classes == 1001 else names
    return []


@cache
def _of_torchvision() -> tuple[str, ...]:
    meta = importlib.import_module("torchvision.models._meta")
    return tuple(str(each) for each in meta._IMAGENET_CATEGORIES)


@cache
def _of_timm() -> tuple[str, ...]:
    info = importlib.import_module("timm.data").ImageNetInfo("imagenet-1k")
    return tuple(str(each) for each in info.label_descriptions(detailed=False))


def imagenet() -> list[str]:
    """Return ImageNet's 1,000 class names from torchvision or timm, whichever is installed; else nothing."""
    for names in (_of_torchvision, _of_timm):
        try:
            return list(names())
        except (ImportError, AttributeError, RuntimeError, OSError, HubError):
            continue
    return []
