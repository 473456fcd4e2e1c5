"""Keras's own models and files: what a file says of itself, and how each family of applications prepares pixels."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError
from headstart.core.registry import require
from headstart.core.trust import need_trust
from headstart.hubs import _names, _vision
from headstart.hubs._json import read_json

MODES: Mapping[str, Mapping[str, Any]] = {
    "caffe": {"scale": 1.0, "channels": "bgr", "mean": [103.939, 116.779, 123.68], "std": None},
    "tf": {"scale": 1 / 127.5, "channels": "rgb", "mean": [1.0, 1.0, 1.0], "std": None},
    "torch": {"scale": 1 / 255, "channels": "rgb", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "raw": {"scale": 1.0, "channels": "rgb", "mean": None, "std": None},
}
"""What `preprocess_input` does, by its mode; raw: the network holds its own scaling."""
USUAL_SIDE = 224
KERNELS = "_weights_tf_dim_ordering_tf_kernels.h5"


@dataclass(frozen=True)
class Application:
    """One of `keras.applications`: its published file, its side in pixels, its mode, and the width of its vectors."""

    file: str
    side: int
    mode: str
    width: int


def _applications() -> dict[str, Application]:
    made = {}
    for name, width in (("ResNet50", 2048), ("ResNet101", 2048), ("ResNet152", 2048)):
        made[name] = Application(name.lower() + KERNELS, 224, "caffe", width)
        made[f"{name}V2"] = Application(f"{name.lower()}v2{KERNELS}", 224, "tf", width)
    for name in ("VGG16", "VGG19"):
        made[name] = Application(name.lower() + KERNELS, 224, "caffe", 4096)
    for name, width in (("DenseNet121", 1024), ("DenseNet169", 1664), ("DenseNet201", 1920)):
        made[name] = Application(name.lower() + KERNELS, 224, "torch", width)
    made["InceptionV3"] = Application(f"inception_v3{KERNELS}", 299, "tf", 2048)
    made["Xception"] = Application(f"xception{KERNELS}", 299, "tf", 2048)
    made["InceptionResNetV2"] = Application(f"inception_resnet_v2{KERNELS}", 299, "tf", 1536)
    made["MobileNet"] = Application("mobilenet_1_0_224_tf.h5", 224, "tf", 1024)
    made["MobileNetV2"] = Application(f"mobilenet_v2{KERNELS[:-3]}_1.0_224.h5", 224, "tf", 1280)
    made["MobileNetV3Small"] = Application("weights_mobilenet_v3_small_224_1.0_float.h5", 224, "raw", 1024)
    made["MobileNetV3Large"] = Application("weights_mobilenet_v3_large_224_1.0_float.h5", 224, "raw", 1280)
    made["NASNetMobile"] = Application("nasnet_mobile.h5", 224, "tf", 1056)
    made["NASNetLarge"] = Application("nasnet_large.h5", 331, "tf", 4032)
    sides = (224, 240, 260, 300, 380, 456, 528, 600)
    widths = (1280, 1280, 1408, 1536, 1792, 2048, 2304, 2560)
    for number, (side, width) in enumerate(zip(sides, widths, strict=True)):
        made[f"EfficientNetB{number}"] = Application(f"efficientnetb{number}.h5", side, "raw", width)
    newer = (("B0", 224, 1280), ("B1", 240, 1280), ("B2", 260, 1408), ("B3", 300, 1536))
    for name, side, width in (*newer, ("S", 384, 1280), ("M", 480, 1280), ("L", 480, 1280)):
        made[f"EfficientNetV2{name}"] = Application(f"efficientnetv2-{name.lower()}.h5", side, "raw", width)
    for name, width in (("Tiny", 768), ("Small", 768), ("Base", 1024), ("Large", 1536), ("XLarge", 2048)):
        made[f"ConvNeXt{name}"] = Application(f"convnext_{name.lower()}.h5", 224, "raw", width)
    return made


APPLICATIONS = _applications()
"""The classes of `keras.applications`, by name."""
UNFIT = ("NASNetMobile",)
"""Those that Keras cannot build on PyTorch."""
_KNOWN = """
ResNet50 25636712 74.9, ResNet50V2 25613800 76.0, ResNet101 44707176 76.4, ResNet101V2 44675560 77.2,
ResNet152 60419944 76.6, ResNet152V2 60380648 78.0, VGG16 138357544 71.3, VGG19 143667240 71.3,
DenseNet121 8062504 75.0, DenseNet169 14307880 76.2, DenseNet201 20242984 77.3, InceptionV3 23851784 77.9,
Xception 22910480 79.0, InceptionResNetV2 55873736 80.3, MobileNet 4253864 70.4, MobileNetV2 3538984 71.3,
MobileNetV3Small 2554968 68.1, MobileNetV3Large 5507432 75.6, NASNetMobile 5326716 74.4, NASNetLarge 88949818 82.5,
EfficientNetB0 5330571 77.1, EfficientNetB1 7856239 79.1, EfficientNetB2 9177569 80.1, EfficientNetB3 12320535 81.6,
EfficientNetB4 19466823 82.9, EfficientNetB5 30562527 83.6, EfficientNetB6 43265143 84.0, EfficientNetB7 66658687 84.3,
EfficientNetV2B0 7200312 78.7, EfficientNetV2B1 8212124 79.8, EfficientNetV2B2 10178374 80.5,
EfficientNetV2B3 14467622 82.0, EfficientNetV2S 21612360 83.9, EfficientNetV2M 54431388 85.3,
EfficientNetV2L 119027848 85.7, ConvNeXtTiny 28589128 81.3, ConvNeXtSmall 50223688 82.3, ConvNeXtBase 88591464 85.3,
ConvNeXtLarge 197767336 86.3, ConvNeXtXLarge 350196968 86.7
"""
KNOWN = {name: (int(weights), float(top)) for name, weights, top in map(str.split, _KNOWN.split(","))}
"""How many weights each has, and its published top-1 accuracy on ImageNet in per cent."""


def prepared(side: tuple[int, int], mode: str) -> dict[str, Any]:
    """Return a preprocessing: stretched to the network's size, as Keras's own loader does, then scaled by mode."""
    return {
        "size": list(side),
        "crop": None,
        "interpolation": "bilinear",
        "antialias": True,
        "layout": "nhwc",
        **MODES[mode],
    }


def open_keras(file: Path, backbone: Backbone, told: Mapping[str, Any] | None = None) -> Network:
    """Return the image network that a `.keras` or `.h5` file holds whole.

    A file does not say what was done to its pixels first: 0 … 255 are given, unless `preprocessing.json` beside it
    says otherwise, in the words of `modalities/_pixels.py`.

    Raises:
        HubError: it cannot be read, holds weights alone, or reads no pictures.
    """
    config = _configuration(file)
    unsafe = sorted({str(each.get("class_name")) for each in _layers(config)} & {"Lambda", "TFSMLayer"})
    if unsafe:
        need_trust(backbone.reference, [f"{each} layer of {file.name}" for each in unsafe])
    shape = _input_shape(config)
    if shape is None or len(shape) != 4 or shape[3] != 3:
        raise HubError(
            f"'{file.name}' reads {list(shape) if shape else 'inputs of no known shape'}, not pictures.",
            allowed="A Keras network that reads (n, height, width, 3).",
        )
    settings = [each.get("config", {}) for each in _layers(config)]
    last: Mapping[str, Any] = next((each for each in reversed(settings) if "units" in each), {})
    units = int(last.get("units") or 0)
    names = _vision.class_names(file, _names.known(units))
    side = (int(shape[1] or USUAL_SIDE), int(shape[2] or USUAL_SIDE))
    preprocessing = prepared(side, "raw") | dict(told or {})
    if (own := file.with_name("preprocessing.json")).is_file():
        preprocessing |= read_json(own)
    classifies = bool(names) or last.get("activation") in ("softmax", "sigmoid")
    width = _width(file, units)
    return Network(
        folder=file.parent,
        architecture="file",
        config={"classes": units},
        weights=file,
        backbone=replace(
            backbone,
            checksum=_vision.verified(backbone, file),
            modality="image",
            width=width,
            size=file.stat().st_size,
            cached=True,
            uses=backbone.uses or (("classify",) * classifies + ("embed",) * bool(width)),
        ),
        preprocessing=preprocessing,
        library="keras",
        labels=names,
    )


def _width(file: Path, units: int) -> int:
    """Return what the last dense layer reads, which is the first side of its kernel; 0 where that is not seen."""
    h5py = require("h5py", "keras")
    found: list[tuple[list[Any], int]] = []

    def look(name: str, each: Any) -> None:
        shape: Any = getattr(each, "shape", ())
        if len(shape) == 2 and shape[1] == units and "optimizer" not in name:
            # Numbers within names count as numbers: dense_10 comes behind dense_9.
            order = [int(part) if part.isdigit() else 0 for part in re.findall(r"\d+|\D+", name)]
            found.append((order, int(shape[0])))

    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            content: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        content = file
    with h5py.File(content, "r") as opened:
        opened.visititems(look)
    return max(found)[1] if found and units else 0


def _configuration(file: Path) -> Any:
    """Return a model file's configuration, which is JSON in both formats."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return json.loads(archive.read("config.json"))
        with require("h5py", "keras").File(file, "r") as opened:
            told = opened.attrs.get("model_config")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise HubError(f"'{file}' cannot be read as a Keras file.", hint="Fetch it again.") from error
    if told is None:
        raise HubError(
            f"'{file.name}' holds weights alone, not the network that they belong to.",
            hint=f"Name the architecture, for example: keras:ResNet50 --weights '{file}'",
        )
    return json.loads(told.decode() if isinstance(told, bytes) else told)


def _layers(config: Any) -> list[Mapping[str, Any]]:
    """Return every layer of a configuration, those of networks within networks too, in their order."""
    found: list[Mapping[str, Any]] = []
    inner = config.get("config", {}) if isinstance(config, Mapping) else {}
    layers = inner.get("layers", []) if isinstance(inner, Mapping) else inner
    for each in layers if isinstance(layers, list) else []:
        if isinstance(each, Mapping):
            found += [each, *_layers(each)]
    return found


def _input_shape(config: Any) -> list[Any] | None:
    for each in _layers(config):
        told = each.get("config", {})
        shape = told.get("batch_shape") or told.get("batch_input_shape")
        if shape:
            return list(shape)
    inner = config.get("config", {}) if isinstance(config, Mapping) else {}
    shape = inner.get("build_input_shape") if isinstance(inner, Mapping) else None
    return list(shape) if shape else None
