"""What a GPU makes of it: texts and pictures a second next to the usual ways, shares of the GPU's limits, and `fit`.

    python benchmarks/gpu.py limits|texts|pictures|steps|fit_texts|fit_pictures [--out FILE]

ResNet-50 has random weights, which are as fast as others and are here without a hub.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import brief, fit
from data import DATA, MOBILE, table

from headstart.core.gpu import machine
from headstart.core.progress import Quiet

ROUNDS, TEXTS, PICTURES = 3, 4_000, 1_024
BUILTIN = "builtin:all-MiniLM-L6-v2"


def rates(runs: Mapping[str, Callable[[], object]], rows: int, warm: int = 1) -> dict[str, float]:
    """Return the rows a second of each, medians of rounds in turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + warm):
        for name, run in runs.items():
            torch.cuda.synchronize()
            before = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if round_ >= warm:
                taken[name].append(time.perf_counter() - before)
    return {name: rows / statistics.median(each) for name, each in taken.items()}


def cosines(theirs: Any, ours: Any) -> float:
    """Return the lowest cosine between rows."""
    theirs, ours = (np.asarray(each, np.float64) for each in (theirs, ours))
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((theirs * ours).sum(1) / lengths).min())


def limits() -> dict[str, Any]:
    """Return what the GPU reaches in a large matrix product and in a copy."""
    from headstart.formats._cuda import peak, timed

    given = torch.empty(1 << 30, dtype=torch.float32, device="cuda").normal_()
    taken = torch.empty_like(given)
    seconds = timed(lambda: taken.copy_(given))
    return {
        "machine": machine(),
        "torch": torch.__version__,
        "tflops": {each: round(peak(each) / 1e12, 1) for each in ("f32", "bf16", "f16")},
        "copy_gb_per_s": round(2 * given.nbytes / seconds / 1e9),
    }


def texts() -> dict[str, Any]:
    """MiniLM's vectors of banking77's questions, and of questions and abstracts of very different lengths."""
    from _texts import mixed_texts
    from sentence_transformers import SentenceTransformer

    from headstart.formats._cuda import peak
    from headstart.formats.torch import Torch
    from headstart.modalities.text import Text
    from headstart.stages.networks import fetch

    network = fetch(BUILTIN, "", Quiet())
    modality, engine = Text(["text"]).bind(network), Torch()
    sessions = {each: engine.open(network, each, 8) for each in ("bf16", "f16", "f32")}
    usual, half = (SentenceTransformer(str(network.folder), device="cuda") for _ in range(2))
    half = half.to(torch.bfloat16)
    found: dict[str, Any] = {"peak_tflops": round(peak("bf16") / 1e12, 1)}
    questions = [row["text"] for row in table("banking77/train.csv")][:TEXTS]
    for name, some in (("questions", questions), ("mixed", mixed_texts(TEXTS // 2))):
        encoded = modality.encode(modality.prepare({"text": some}))
        tokens = int(encoded["lengths"].sum())
        runs: dict[str, Callable[[], Any]] = {
            "headstart, texts in": lambda some=some: sessions["bf16"].run(
                modality.encode(modality.prepare({"text": some}))
            )["embedding"],
            "sentence-transformers": lambda some=some: usual.encode(some, show_progress_bar=False),
            "sentence-transformers, bf16": lambda some=some: half.encode(some, show_progress_bar=False),
            "sentence-transformers, bf16, 512 at once": lambda some=some: half.encode(
                some, batch_size=512, show_progress_bar=False
            ),
            **{f"network alone, {name}": lambda each=each, encoded=encoded: each.run(encoded)["embedding"]
               for name, each in sessions.items()},
        }  # fmt: skip
        exact = usual.encode(some, show_progress_bar=False)
        same = {each: round(cosines(exact, np.asarray(run(), np.float32)), 6) for each, run in runs.items()}
        every = rates(runs, len(some))
        operations = engine.operations(network, encoded) / len(some)
        found[name] = {
            "texts": len(some),
            "tokens_a_text": round(tokens / len(some), 1),
            "budget": sessions["bf16"].fast.fast.size,
            "texts_per_s": {each: round(rate) for each, rate in every.items()},
            "ratio": {each: round(rate / every["sentence-transformers"], 2) for each, rate in every.items()},
            "cosine_min": same,
            "tokens_per_s": round(every["network alone, bf16"] * tokens / len(some)),
            "share_of_peak": round(every["network alone, bf16"] * operations / 1e12 / found["peak_tflops"], 3),
        }
    one = modality.encode(modality.prepare({"text": [questions[0]]}))
    runs = {"headstart": lambda: sessions["bf16"].run(one), "sentence-transformers": lambda: usual.encode(questions[0]),
            "headstart, eager f32": lambda: sessions["f32"].run(one)}  # fmt: skip
    found["milliseconds_of_one"] = {name: round(1000 / rate, 3) for name, rate in rates(dict(runs), 1, warm=5).items()}
    return found


def pictures() -> dict[str, Any]:
    """ResNet-50 and MobileNetV2: pictures a second from pixels in memory, and from JPEG files."""
    import torchvision

    from headstart.core.blob import Blob
    from headstart.formats._cuda import peak
    from headstart.formats.torch import Torch
    from headstart.modalities.image import Image
    from headstart.runtime import embedded
    from headstart.stages.networks import fetch

    engine = Torch()
    found: dict[str, Any] = {"peak_tflops": round(peak("bf16") / 1e12, 1)}
    torch.backends.cuda.matmul.allow_tf32 = False
    files = sorted((DATA / "clothing_small/train").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet50(weights=None).state_dict(), Path(place) / "resnet50.pth")
        for name, weights in (("resnet50", str(Path(place) / "resnet50.pth")), ("mobilenet_v2", str(MOBILE))):
            network = fetch(f"torchvision:{name}", "", Quiet(), weights)
            image = Image(["photo"]).bind(network)
            arrays = image.prepare({"photo": [Blob.of_file(file) for file in files[:PICTURES]]})
            pixels = image.encode({"image": arrays["image"][:256]})
            half, single = (engine.open(network, each, 8) for each in ("bf16", "f32"))
            plain = torchvision.models.get_model(name, weights=None).eval().cuda()
            plain.load_state_dict(torch.load(weights, weights_only=True))
            given = torch.from_numpy(pixels["pixels"])

            def eager(module: Any = plain, given: Any = given, dtype: Any = torch.float32) -> Any:
                with torch.inference_mode():
                    return torch.cat([module(each.cuda().to(dtype)).float() for each in given.split(64)]).cpu().numpy()

            placed = {"pixels": half.fast.fast._placed(given)}
            runs: dict[str, Callable[[], Any]] = {
                "torchvision, eager f32": eager,
                "torchvision, eager bf16": partial(eager, _halved(plain), dtype=torch.bfloat16),
                "headstart bf16": lambda half=half, pixels=pixels: half.run(pixels),
                "headstart f32": lambda single=single, pixels=pixels: single.run(pixels),
                "network alone, bf16": lambda half=half, placed=placed: _replayed(half, placed),
            }
            if name == "resnet50":  # it takes half a minute
                compiled = torch.compile(_halved(plain).to(memory_format=torch.channels_last))
                runs["network alone, torch.compile"] = partial(_under, compiled, placed["pixels"])
            vectors = {each: engine_.run(pixels)["embedding"] for each, engine_ in (("f32", single), ("bf16", half))}
            every = rates(runs, len(given), warm=3)
            started = time.perf_counter()
            embedded(image, half, arrays)
            seconds = time.perf_counter() - started
            operations = engine.operations(network, pixels) / len(given)
            found[name] = {
                "batch": half.fast.fast.size,
                "pictures_per_s": {each: round(rate) for each, rate in every.items()},
                "ratio": {each: round(rate / every["torchvision, eager f32"], 2) for each, rate in every.items()},
                "cosine_min": round(cosines(vectors["f32"], vectors["bf16"]), 6),
                "share_of_peak": round(every["network alone, bf16"] * operations / 1e12 / found["peak_tflops"], 3),
                "from_jpeg_per_s": round(len(arrays["image"]) / seconds),
                "recorded": half.fast.fast.run_once.able,
            }
    return found


def _halved(module: Any) -> Any:
    import copy

    return copy.deepcopy(module).to(torch.bfloat16)


def _replayed(session: Any, placed: Mapping[str, Any]) -> None:
    runner = session.fast.fast
    with torch.inference_mode():
        for some in placed["pixels"].split(runner.size):
            runner.run_once({"pixels": some})


def _under(module: Any, pixels: Any) -> None:
    with torch.inference_mode():
        module(pixels)


def steps() -> dict[str, Any]:
    """Rows a second of fine-tuning all of MiniLM, next to transformers' Trainer at its defaults, both on this GPU."""
    import training

    with tempfile.TemporaryDirectory() as place:
        return training.steps(Path(place), "cuda")


def fit_texts() -> dict[str, Any]:
    """The whole command on banking77: the ladder within two minutes."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [DATA / "banking77/train.csv", "--test", DATA / "banking77/test.csv", "--target", "category"]
        report = fit(Path(place), *arguments, "--budget", "2m", "--offline")
        return {**brief(report, "category"), "ladder": _rungs(report), "backbone": report.get("backbone")}


def fit_pictures() -> dict[str, Any]:
    """The whole command on photos of clothes: all of MobileNetV2 is tuned."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [DATA / "clothing_small/train", "--test", DATA / "clothing_small/test", "--target", "label"]
        network = ["--backbone", "torchvision:mobilenet_v2", "--weights", MOBILE, "--method", "finetune"]
        report = fit(Path(place), *arguments, *network)
        return {**brief(report, "label"), "ladder": _rungs(report)}


def _rungs(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{key: each[key] for key in ("name", "score", "seconds", "kept", "why")} for each in report["ladder"]]


if __name__ == "__main__":
    name, place = sys.argv[1], sys.argv[3] if sys.argv[2:3] == ["--out"] else ""
    made = json.dumps(globals()[name](), indent=1)
    print(made)
    if place:
        Path(place).write_text(made + "\n", encoding="utf-8")
