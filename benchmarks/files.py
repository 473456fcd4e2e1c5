"""Pictures and recordings: accuracy with frozen features, seconds of the first and of a second fit, and decoding.

    python benchmarks/files.py pictures|recordings|decoding

The networks are the small ImageNet ones in ../shared/weights; the whole command counts, each with an empty cache first
and then again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import brief, fit
from data import DATA, MOBILE, SHARED

NETWORKS = {
    "torchvision:mobilenet_v2": MOBILE,
    "torchvision:squeezenet1_0": SHARED / "weights/squeezenet1_0_imagenet/squeezenet1_0_torchvision.pth",
}
FOLDERS = {
    "clothing_small, its test folder": ("clothing_small/train", "clothing_small/test"),
    "magnetic_tile": ("magnetic_tile/images", ""),
    "covid_xray": ("covid_xray", ""),
}
SEEDS = (0, 1, 2)
"""Splits that are averaged where the data has no test rows of its own."""
PHOTOS = 1_000


def pictures(scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (train, test) in FOLDERS.items():
        for reference, weights in NETWORKS.items():
            cache = Path(tempfile.mkdtemp(dir=scratch))
            chosen = ["--backbone", reference, "--weights", weights, "--target", "label"]
            chosen += ["--test", DATA / test] if test else []
            runs = [
                fit(scratch, DATA / train, *chosen, "--seed", seed, cache=cache) for seed in SEEDS[: 1 if test else 3]
            ]
            again = fit(scratch, DATA / train, *chosen, cache=cache)
            judged = [brief(run, "label") for run in runs]
            found[f"{name}: {reference}"] = {
                **{key: float(np.mean([each[key] for each in judged])) for key in ("accuracy", "macro_f1", "scratch")},
                "splits": len(runs),
                "random_split": judged[0].get("random_split_accuracy"),
                "seconds": runs[0]["wall"],
                "seconds_again": again["wall"],
                "verdict": judged[0]["verdict"],
            }
    return found


def recordings(scratch: Path) -> dict[str, Any]:
    """Spoken digits: from scratch, each split without one speaker."""
    chosen = ["--target", "digit", "--input", "file", "--group", "speaker", "--task", "digit=classify"]
    runs = [fit(scratch, DATA / "fsdd/index.csv", *chosen, "--seed", seed) for seed in range(4)]
    judged = [brief(run, "digit") for run in runs]
    return {
        "accuracy": float(np.mean([each["accuracy"] for each in judged])),
        "splits": [each["accuracy"] for each in judged],
        "held_out_training_speakers": [run["targets"]["digit"]["race"][0]["score"] for run in runs],
        "method": judged[0]["method"],
        "seconds": runs[0]["wall"],
    }


def decoding(scratch: Path) -> dict[str, Any]:
    """Embed photos, and count the share of the time that the network was at work."""
    from headstart.core.arrays import Session
    from headstart.core.blob import Blob
    from headstart.core.progress import Quiet
    from headstart.modalities.image import Image
    from headstart.runtime import embedded
    from headstart.stages.networks import open_network

    class Timed(Session):
        def __init__(self, inner: Session) -> None:
            self.inner, self.seconds = inner, 0.0

        def run(self, arrays: Any) -> dict[str, np.ndarray]:
            started = time.perf_counter()
            found = self.inner.run(arrays)
            self.seconds += time.perf_counter() - started
            return found

    reference = "torchvision:mobilenet_v2"
    opened = open_network(reference, "", Quiet(), weights=str(NETWORKS[reference]))
    files = sorted((DATA / "clothing_small/train").rglob("*.jpg"))[:PHOTOS]
    image = Image(["photo"]).bind(opened.network)
    arrays = image.prepare({"photo": [Blob.of_file(file) for file in files]})
    embedded(image, opened.session, {"image": arrays["image"][:64]})
    session = Timed(opened.session)
    started = time.perf_counter()
    embedded(image, session, arrays)
    seconds = time.perf_counter() - started
    pixels = image.encode({"image": arrays["image"][:64]})
    engines = {each: open_network(reference, "", Quiet(), each, weights=str(NETWORKS[reference])).session
               for each in ("openvino", "torch")}  # fmt: skip
    taken: dict[str, list[float]] = {each: [] for each in engines}
    for _ in range(6):
        for each, running in engines.items():
            started = time.perf_counter()
            running.run(pixels)
            taken[each].append(time.perf_counter() - started)
    return {
        "seconds_of_64": {each: round(float(np.median(some[1:])), 3) for each, some in taken.items()},
        "photos": len(files),
        "engine": f"{opened.format} {opened.precision}",
        "seconds": round(seconds, 2),
        "photos_per_s": round(len(files) / seconds, 1),
        "network_share": round(session.seconds / seconds, 3),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[sys.argv[1]](Path(folder)), indent=1))
