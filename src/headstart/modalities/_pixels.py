"""Pictures: from a file's bytes to the pixels that a network reads.

A network's `preprocessing`, as plain JSON data; every name may be absent:

```
size            int: length of the shorter side; [height, width]: exactly these; null: left as it is
longest         int: the longer side may not become longer than this (with an int `size`)
crop            [height, width] cut out of the centre, black where the picture is smaller; null: none
centre          round (torchvision, timm) or floor (transformers): where the centre is, when a margin is odd
interpolation   nearest, bilinear, bicubic, lanczos
antialias       whether shrinking averages (Pillow always does, OpenCV never)
scale           what a value of 0 … 255 is multiplied by, before mean is subtracted and std divides
mean, std       one number for each channel, in the order of `channels`; null: none
layout          nchw or nhwc
channels        rgb, bgr, grey: one channel, how bright each pixel is, or rgbx: a fourth one, such as infrared
pad             value around a picture that keeps its shape within `size`; null: it is stretched to `size`
align           where the picture stands in that frame: corner (left, top) or centre
```
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from headstart.core.backbone import CHANNELS
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.registry import require

MOST_PIXELS = 89_478_485
"""Width x height that one picture may have: 256 MB of RGB; a small file can claim far more."""
FILES = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "MPO", "PPM", "ICO", "PCX", "TGA", "JPEG2000", "AVIF")
"""Kinds of files that are opened. Pillow's others start programs (EPS), fetch, or are no pictures."""
NARROWEST = 32
"""Longer side by shorter side, above which the ends of a picture, which the crop drops, are cut before resizing."""
WHITE = (255, 255, 255, 255)
FOUR = 4
"""Bands of the pictures that have more than colours."""


def defaults() -> dict[str, Any]:
    """Return the preprocessing of most networks trained on ImageNet.

    >>> defaults()["crop"]
    [224, 224]
    """
    return {
        "size": 256,
        "crop": [224, 224],
        "interpolation": "bilinear",
        "antialias": True,
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "layout": "nchw",
        "channels": "rgb",
        "pad": None,
    }


def decode(content: bytes, name: str, least: int = 0, bands: int = 3) -> Any:
    """Return a file's picture as a `PIL.Image` of mode RGB, upright, its first frame, on white where transparent.

    Args:
        content: the file's bytes.
        name: what it is called in errors.
        least: pixels of its shorter side that are enough: a large JPEG is then decoded at a fraction of its size,
            faster and almost the same. 0 decodes it whole.
        bands: 4 gives the mode RGBX, as `four` does.

    Raises:
        DataError: it is no picture, is damaged or cut short, or is too large.
        MissingExtra: Pillow is not installed.
    """
    image = require("PIL.Image", "image")
    if not content:
        raise DataError(f"'{name}' is empty.", allowed="A picture: JPEG, PNG, GIF, WebP, BMP or TIFF.")
    try:
        with image.open(io.BytesIO(content), formats=_openable()) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise image.DecompressionBombError
            if least and min(width, height) > least:
                share = least / min(width, height)
                opened.draft("RGB", (round(width * share), round(height * share)))
            return four(_upright(opened)) if bands == FOUR else _rgb(_upright(opened))
    except image.UnidentifiedImageError as error:
        raise DataError(
            f"'{name}' is not a picture that can be read.", allowed="A picture: JPEG, PNG, GIF, WebP, BMP or TIFF."
        ) from error
    except (image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise DataError(
            f"'{name}' is too large a picture.", allowed=f"At most {MOST_PIXELS:,} pixels, width x height."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to.
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(
            f"'{name}' is damaged or cut short: {reason}.", hint="Save the picture again, or leave it out."
        ) from error


@cache
def _openable() -> list[str]:
    image = require("PIL.Image", "image")
    image.init()
    return [each for each in FILES if each in image.OPEN]


def upright(image: Any) -> Any:
    """Return a `PIL.Image` as `decode` would: RGB, turned as its EXIF data say, on white where transparent."""
    return _rgb(_upright(image))


def from_array(array: np.ndarray) -> Any:
    """Return (height, width), (height, width, 1), (height, width, 3) or (height, width, 4) numbers as a `PIL.Image`.

    Args:
        array: uint8 of 0 … 255, or floats of 0 … 1.

    Raises:
        DataError: it has another shape or type.
    """
    plane = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if np.issubdtype(plane.dtype, np.floating) and plane.size and plane.min() >= 0 and plane.max() <= 1:
        plane = (plane * 255).round().astype(np.uint8)
    if plane.dtype != np.uint8 or plane.ndim not in (2, 3) or (plane.ndim == 3 and plane.shape[2] not in (3, 4)):
        raise DataError(
            f"An array of shape {list(array.shape)} and type {array.dtype} is not a picture.",
            allowed="(height, width, 3) of uint8 from 0 to 255, or of floats from 0 to 1; one or four channels too.",
        )
    return upright(require("PIL.Image", "image").fromarray(np.ascontiguousarray(plane)))


def smallest(preprocessing: Mapping[str, Any]) -> int:
    """Return `least` for `decode`: twice the side that this network sees, so that shrinking still averages; 0: all."""
    wanted = preprocessing.get("size")
    if not wanted or preprocessing.get("longest") or preprocessing.get("interpolation") == "nearest":
        return 0
    if not preprocessing.get("antialias", True):
        return 0
    return 2 * (wanted if isinstance(wanted, int) else max(int(each) for each in wanted))


def _upright(image: Any) -> Any:
    turns = require("PIL.ImageOps", "image")
    image.load()
    try:
        return turns.exif_transpose(image)
    except Exception:  # Broken EXIF data does not make a picture unreadable.
        return image


def _rgb(image: Any) -> Any:
    if image.mode in ("RGB", "CMYK", "YCbCr", "HSV", "L", "1") and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(image)
    if image.mode in ("RGB", "L", "1", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX"):
        pictures = require("PIL.Image", "image")
        clear = image.convert("RGBA")
        return pictures.alpha_composite(pictures.new("RGBA", clear.size, WHITE), clear).convert("RGB")
    return image.convert("RGB")


def four(image: Any) -> Any:
    """Return a `PIL.Image` of mode RGBX whose fourth band is what stands where others say how opaque a pixel is.

    Pictures of three bands or fewer have 255 there.
    """
    if image.mode not in ("RGBA", "RGBX"):
        image = _rgb(image).convert("RGBA")
    # Resizing the mode RGBA would weigh the colours by the fourth band.
    return require("PIL.Image", "image").frombytes("RGBX", image.size, image.tobytes())


def _deep(image: Any) -> Any:
    """Return a picture of more than 8 bits as RGB: 16 bits, or numbers of 0 … 1, else from the least to the most."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low >= 0 and (image.mode.startswith("I;16") or 255 < high <= 65535):
        values = values / 257
    elif low < 0 or high > 255:
        values = (values - low) * (255 / ((high - low) or 1))
    plane = np.clip(np.nan_to_num(values), 0, 255).round().astype(np.uint8)
    return require("PIL.Image", "image").fromarray(plane).convert("RGB")


@dataclass(frozen=True)
class Placement:
    """Where a picture stands in what the network reads.

    Args:
        width: of the resized picture, before anything is cut off.
        height: the same.
        left: pixels from the left edge of the network's input to that of the resized picture; below 0 where cut.
        top: the same.
        canvas: height and width of the network's input.
    """

    width: int
    height: int
    left: int
    top: int
    canvas: tuple[int, int]


def placement(size: tuple[int, int], preprocessing: Mapping[str, Any]) -> Placement:
    """Return where a picture of `size` (width, height) stands after resizing, cropping and padding.

    >>> placement((1280, 720), {"size": [416, 416], "pad": 114})
    Placement(width=416, height=234, left=0, top=0, canvas=(416, 416))
    """
    width, height = size
    wanted, crop = preprocessing.get("size"), preprocessing.get("crop")
    if isinstance(wanted, int):
        width, height = _by_shorter(width, height, wanted, preprocessing.get("longest"))
    elif wanted:
        rows, columns = (int(each) for each in wanted)
        if preprocessing.get("pad") is None:
            width, height = columns, rows
        else:
            share = min(columns / width, rows / height)
            width, height = max(1, int(width * share)), max(1, int(height * share))
            rows, columns = (int(each) for each in crop or wanted)
            middle = preprocessing.get("align", "corner") == "centre"
            left, top = ((columns - width) // 2, (rows - height) // 2) if middle else (0, 0)
            return Placement(width, height, left, top, (rows, columns))
    if not crop:
        return Placement(width, height, 0, 0, (height, width))
    rows, columns = (int(each) for each in crop)
    floor = preprocessing.get("centre") == "floor"
    return Placement(width, height, -_margin(width, columns, floor), -_margin(height, rows, floor), (rows, columns))


def _by_shorter(width: int, height: int, shorter: int, longest: int | None) -> tuple[int, int]:
    low, high = min(width, height), max(width, height)
    exact = float(shorter)
    if longest and high / low * shorter > longest:
        exact = longest * low / high
        shorter = max(1, round(exact))
    longer = max(1, int(exact * high / low))
    return (shorter, longer) if width <= height else (longer, shorter)


def _margin(length: int, crop: int, floor: bool) -> int:
    """Return what is cut off in front; below 0, what is added."""
    spare = length - crop
    if spare < 0:
        return spare // 2 if floor else -(-spare // 2)
    return spare // 2 if floor else round(spare / 2)


def fitted(image: Any, preprocessing: Mapping[str, Any]) -> Any:
    """Return a picture resized, cropped and padded, still a `PIL.Image`."""
    where = placement(image.size, preprocessing)
    if preprocessing.get("crop") and max(where.width, where.height) > NARROWEST * min(where.width, where.height):
        image = _without_ends(image)
        where = placement(image.size, preprocessing)
    image = _resized(image, where.width, where.height, preprocessing)
    rows, columns = where.canvas
    if (columns, rows) == image.size and not where.left and not where.top:
        return image
    pad = preprocessing.get("pad") or 0
    if 0 < -where.left + columns <= image.width and 0 < -where.top + rows <= image.height:
        return image.crop((-where.left, -where.top, columns - where.left, rows - where.top))
    canvas = require("PIL.Image", "image").new(image.mode, (columns, rows), (int(pad),) * len(image.getbands()))
    canvas.paste(image, (where.left, where.top))
    return canvas


def _without_ends(image: Any) -> Any:
    width, height = image.size
    longest = NARROWEST * min(width, height)
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, width - left, height - top))


def _resized(image: Any, width: int, height: int, preprocessing: Mapping[str, Any]) -> Any:
    if (width, height) == image.size:
        return image
    pictures = require("PIL.Image", "image")
    known = {each: getattr(pictures.Resampling, each.upper()) for each in ("nearest", "bilinear", "bicubic", "lanczos")}
    name = preprocessing.get("interpolation", "bilinear")
    if name not in known:
        raise UsageError(f"There is no interpolation '{name}'.", allowed=f"Interpolations: {listed(known)}.")
    if preprocessing.get("antialias", True) or name in ("nearest", "lanczos"):
        return image.resize((width, height), known[name])
    whole = (0, 0, image.width, image.height)
    return image.transform((width, height), pictures.Transform.EXTENT, whole, known[name])


def pixels(images: Sequence[Any], preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Return what the network reads, float32: (n, 3, height, width), or (n, height, width, 3) for the layout `nhwc`.

    Where its `channels` are `grey`, there is one in place of three; where they are `rgbx`, there are four.

    Args:
        images: pictures as `decode` gives them, of four bands where the network reads four. They must come out in one
            size, which they do when `crop` or a pair as `size` is set; else give them one by one.

    Raises:
        DataError: they come out in several sizes.
    """
    order = preprocessing.get("channels", "rgb")
    ready = [fitted(each, preprocessing) for each in images]
    ready = [np.asarray(each.convert("L"))[..., None] if order == "grey" else np.asarray(each) for each in ready]
    shapes = {each.shape for each in ready}
    if len(shapes) > 1:
        raise DataError(
            f"The pictures have {len(shapes)} different sizes after resizing, and this network sets none.",
            hint="Give them one by one.",
        )
    table = _table(preprocessing)
    last = preprocessing.get("layout", "nchw") == "nhwc"
    rows, columns = ready[0].shape[:2] if ready else (0, 0)
    count = count_of(preprocessing)
    out = np.empty((len(ready), rows, columns, count) if last else (len(ready), count, rows, columns), np.float32)
    for number, picture in enumerate(ready):
        for channel in range(count):
            plane = picture[..., 2 - channel if order == "bgr" else channel]
            to = out[number, ..., channel] if last else out[number, channel]
            to[...] = table[channel][plane]
    return out


def count_of(preprocessing: Mapping[str, Any]) -> int:
    """Return how many channels a network reads.

    Raises:
        UsageError: its preprocessing names others than there are.
    """
    order = str(preprocessing.get("channels", "rgb"))
    if order not in CHANNELS:
        raise UsageError(f"There are no channels '{order}'.", allowed=f"Channels: {listed(CHANNELS)}.")
    return CHANNELS[order]


def _table(preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Return (3 or 4, 256): what each value of each channel becomes, rounded as the libraries round it, in float32."""
    bands = max(3, count_of(preprocessing))
    values = np.tile((np.arange(256) * float(preprocessing.get("scale", 1 / 255))).astype(np.float32), (bands, 1))
    for name, apply in (("mean", np.subtract), ("std", np.divide)):
        numbers = preprocessing.get(name)
        if numbers is not None:
            values = apply(values, np.asarray(numbers, np.float32).reshape(-1, 1))
    return values
