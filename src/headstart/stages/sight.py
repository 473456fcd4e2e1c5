"""Edits of what a picture network reads: grey, a fourth band, other sides; told so that it opens again as any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError
from headstart.core.files import read_json, write_json

LIBRARIES = ("transformers", "timm")
"""Libraries whose files say what a network reads."""
GREY, FOUR = 1, 4
PROCESSOR = "preprocessor_config.json"


def reseen(network: Network, module: Any, channels: int | None, size: int | Sequence[int] | None) -> dict[str, Any]:
    """Change what a network reads, in place, and return what of its configuration is different then.

    Args:
        channels: 1, for grey pictures; 4, for those with a band more than colours.
        size: pixels of each side, or height and width.

    Raises:
        UsageError: it cannot read that, or no file of its library would say so.
    """
    name = network.backbone.reference
    if network.backbone.modality != "image" or network.library not in LIBRARIES:
        raise UsageError(
            f"'{name}' cannot be told to read other pictures: its files do not say what it reads.",
            allowed="Picture networks of timm and of transformers.",
        )
    if channels not in (None, GREY, FOUR):
        raise UsageError(
            f"channels is {channels}.",
            allowed="1, for grey pictures, or 4: colours, and what a file has where others say how opaque it is.",
        )
    if channels == FOUR and "detect" in network.backbone.uses:
        raise UsageError(f"'{name}' detects, and detectors read no fourth band.", allowed="channels: 1.")
    from headstart.training import inputs

    before, after, placed = _sides(network), _pair(size), False
    try:
        if channels:
            inputs.rebanded(module, channels)
        if after is not None:
            placed = inputs.resize(module, before, after)
    except ValueError as error:
        raise UsageError(f"'{name}' cannot read such pictures: {error}.") from error
    if network.library == "timm":
        return _of_timm(network, channels, after, placed)
    return _of_transformers(network, channels, after)


def _of_timm(network: Network, channels: int | None, sides: tuple[int, int] | None, placed: bool) -> dict[str, Any]:
    told = dict(network.config.get("pretrained_cfg") or {})
    arguments = dict(network.config.get("model_args") or {})
    for name in ("test_input_size", "test_crop_pct"):
        told.pop(name, None)
    rows, columns = sides or _sides(network)
    count = channels or len(network.preprocessing["mean"])
    told["input_size"] = [count, rows, columns]
    if channels:
        arguments["in_chans"] = channels
        told |= {name: _for_channels(network, name, channels) for name in ("mean", "std")}
    if sides and placed:
        arguments["img_size"] = [rows, columns]
    return {"pretrained_cfg": told, "model_args": arguments}


def _of_transformers(network: Network, channels: int | None, sides: tuple[int, int] | None) -> dict[str, Any]:
    changes: dict[str, Any] = {"num_channels": channels} if channels else {}
    if sides and "image_size" in network.config:
        changes["image_size"] = sides[0] if sides[0] == sides[1] else list(sides)
    return changes


def write_sight(network: Network, folder: Path, config: dict[str, Any], size: int | Sequence[int] | None) -> None:
    """Write into a folder how pictures are brought to what the network reads now, as its library writes it."""
    write_json(folder / "config.json", config)
    if network.library == "timm":
        return
    told = read_json(folder / PROCESSOR, HubError)
    sides = _pair(size)
    if sides:
        for name in ("crop_size", "crop_pct", "max_size"):
            told.pop(name, None)
        told |= {"do_resize": True, "size": {"height": sides[0], "width": sides[1]}, "do_center_crop": False}
    count = config.get("num_channels")
    if count in (GREY, FOUR) and told.get("do_normalize", True):
        told |= {f"image_{name}": _for_channels(network, name, count) for name in ("mean", "std")}
    write_json(folder / PROCESSOR, told)


def _for_channels(network: Network, name: str, channels: int) -> list[float]:
    """Return the mean or deviation of each channel: the colours' own, and their middle for what is no colour."""
    values = [float(each) for each in network.preprocessing[name] or [0.0 if name == "mean" else 1.0] * 3]
    middle = sum(values) / len(values)
    if len(values) == channels:
        return values
    return [middle] if channels == GREY else [*values, *[middle] * (channels - len(values))]


def _sides(network: Network) -> tuple[int, int]:
    """Return height and width of what the network reads now."""
    found = _pair(network.preprocessing.get("crop") or network.preprocessing.get("size"))
    return found or (224, 224)


def _pair(size: Any) -> tuple[int, int] | None:
    """Return height and width.

    Raises:
        UsageError: they are no such numbers.
    """
    if size is None:
        return None
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if len(sides) != 2 or not all(isinstance(each, int) and 8 <= each <= 4096 for each in sides):
        raise UsageError(f"size is {size}.", allowed="Pixels of a side, 8 to 4096, or [height, width].")
    return sides[0], sides[1]
