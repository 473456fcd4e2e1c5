"""What a picture network reads, changed: grey pictures or a fourth band in place of colours, and other sides."""

from __future__ import annotations

import math
from typing import Any

import torch

PLACES = ("position_embeddings", "pos_embed")
"""What vision transformers call the vectors that say where a patch stands."""


def rebanded(module: Any, channels: int) -> None:
    """Make a network's first convolution read another number of channels, in place.

    For one, its weights for colours are added up; for more, the others get the mean of the colours' weights, and all
    are scaled down. A picture whose channels are all alike then gives what it gave before, up to how each channel was
    brought to scale.

    Raises:
        ValueError: it has no first convolution of three colours.
    """
    first = next((each for each in module.modules() if isinstance(each, torch.nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise ValueError("its first layer is no convolution of three colours")
    colours = first.weight.detach()
    if channels == 1:
        made = colours.sum(dim=1, keepdim=True)
    else:
        more = colours.mean(dim=1, keepdim=True).expand(-1, channels - 3, -1, -1)
        made = torch.cat([colours, more], dim=1) * (3 / channels)
    first.weight = torch.nn.Parameter(made.contiguous())
    first.in_channels = channels


def resize(module: Any, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Bring what says where patches stand to other sides, in place, by bicubic interpolation; say whether there is any.

    Networks of convolutions alone have none, and read any sides.

    Args:
        before: height and width that the network reads now, in pixels.
        after: those that it is to read.

    Raises:
        ValueError: the sides are no whole number of patches.
    """
    found = {name: each for name, each in module.named_parameters() if name.rpartition(".")[2] in PLACES}
    for name, each in found.items():
        if each.ndim != 3:
            raise ValueError(f"'{name}' is no row of places")
        count = each.shape[1]
        area = before[0] * before[1]
        # What stands in front is for no patch, such as the token for the class.
        patch = next((side for side in range(1, min(before) + 1) if 0 <= count - area / side**2 < 4
                      and not before[0] % side and not before[1] % side), 0)  # fmt: skip
        if not patch or any(side % patch for side in after):
            raise ValueError(f"its patches are {patch or '?'} pixels wide, and {after[0]} × {after[1]} is no multiple")
        old, new = ([side // patch for side in sides] for sides in (before, after))
        front = count - math.prod(old)
        places = each.detach()[:, front:].reshape(1, *old, -1).permute(0, 3, 1, 2)
        moved = torch.nn.functional.interpolate(places, size=new, mode="bicubic", align_corners=False, antialias=True)
        rows = moved.permute(0, 2, 3, 1).reshape(1, math.prod(new), -1)
        owner = module.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(torch.cat([each.detach()[:, :front], rows], dim=1)))
    return bool(found)
