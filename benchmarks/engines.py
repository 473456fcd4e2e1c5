"""How fast engines run networks here: texts, pictures and recordings, next to the usual ways, with fidelity beside.

    python benchmarks/engines.py texts|pictures|recordings|writing|dictation|boxes|single

Medians of rounds in turns; ratios are to the first way of each. All networks but the texts' have random
weights, which are as fast as others and are here without a hub; what accuracy a form keeps `headstart compress` tells.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _backends import peers
from _texts import mixed_texts
from data import DATA, draw, table, write

from headstart.core.backbone import Backbone, Network
from headstart.core.blob import Blob
from headstart.core.progress import Quiet
from headstart.core.threads import core_count
from headstart.formats.openvino import OpenVINO
from headstart.modalities.image import Image
from headstart.modalities.text import Text
from headstart.runtime import embedded
from headstart.stages.networks import fetch, start

ROUNDS, TEXTS, PIPED, PHOTOS, CALIBRATION = 5, 1_000, 100, 64, 32
SECONDS = (1.2, 2.0, 3.1, 4.0, 5.5, 8.0, 2.6, 6.3)
"""Lengths of the recordings."""
ALONE = 60
"""Texts that are answered one at a time."""
SIDES, PROMPT, STEPS = (1, 8), 64, 48
"""Texts that are written side by side, tokens of each prompt, and tokens that are written."""
SPOKEN, WRITTEN = 30.0, 100
"""Seconds of a recording that is written down, and tokens of its text."""
DETECTORS = {
    "Faster R-CNN on MobileNetV3, 320": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "SSDlite320 on MobileNetV3": "ssdlite320_mobilenet_v3_large",
    "Faster R-CNN on ResNet-50": "fasterrcnn_resnet50_fpn",
}
HIGH, WIDE = 480, 640
"""Pixels of the picture that they look at."""
Way = tuple[Callable[[], Any], int]
"""A way, and how many rows it takes at a time."""


def measured(ways: Mapping[str, Way], truth: str) -> dict[str, Any]:
    """Return rows a second, ratios, and the lowest cosine to the vectors of one way."""
    vectors = {name: np.asarray(run(), np.float64) for name, (run, _) in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (run, _) in ways.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    rates = {name: rows / statistics.median(taken[name]) for name, (_, rows) in ways.items()}
    first = next(iter(rates.values()))
    return {
        name: {
            "rows_per_s": round(rates[name], 2),
            "ratio": round(rates[name] / first, 2),
            "cosine_min": round(_cosine(vectors[truth], vectors[name]), 5),
        }
        for name in ways
    }


def _cosine(theirs: np.ndarray, ours: np.ndarray) -> float:
    theirs = theirs[: len(ours)]
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((theirs * ours).sum(1) / lengths).min())


def forms(network: Network, given: list[Any], folder: Path) -> dict[str, Any]:
    """Return OpenVINO's sessions of a network, by precision, eight bits among them."""
    engine = OpenVINO()
    found = {each: engine.open(network, each, core_count()) for each in engine.offered(network)}
    small = engine.compress(network, "int8", given, folder)
    return {f"headstart {name}": each for name, each in found.items()} | {"headstart int8": start(small).session}


def texts() -> dict[str, Any]:
    """MiniLM: texts of very different lengths to vectors, tokenising included."""
    import transformers
    from sentence_transformers import SentenceTransformer

    some = mixed_texts(TEXTS)
    network = fetch("builtin:all-MiniLM-L6-v2", "", Quiet())
    modality = Text(["text"]).bind(network)
    peer = SentenceTransformer(str(network.folder), device="cpu")
    pipe = transformers.pipeline("feature-extraction", model=str(network.folder), device="cpu")

    def piped() -> np.ndarray:
        made = [
            np.mean(each[0], axis=0)
            for each in pipe(some[:PIPED], tokenize_kwargs={"truncation": True, "max_length": 256})
        ]
        return np.stack(made)

    with tempfile.TemporaryDirectory() as place, peers(network.folder) as others:
        asked = Path(place) / "texts.json"
        asked.write_text(json.dumps(some), encoding="utf-8")
        given = [modality.encode(modality.prepare({"text": mixed_texts(300, seed=1)}))]
        ways: dict[str, Way] = {
            "sentence-transformers": (lambda: peer.encode(some, show_progress_bar=False), len(some)),
            "transformers' pipeline": (piped, PIPED),
        }
        for name, other in others.items():
            other.run(asked, vectors=True)
            made = np.load(other.vectors)
            ways[name] = (lambda own=other, made=made: own.run(asked) or made, len(some))
        for name, session in forms(network, given, Path(place) / "int8").items():
            ways[name] = (lambda own=session: own.run(modality.encode(modality.prepare({"text": some})))["embedding"],
                          len(some))  # fmt: skip
        return {"what": f"MiniLM, {len(some):,} texts of mixed lengths", **_with(measured(ways, next(iter(ways))))}


def pictures() -> dict[str, Any]:
    """ResNet-50: photos to vectors, from pixels in memory, and from JPEG files by the fastest exact way."""
    import onnxruntime
    import torchvision

    files = sorted((DATA / "clothing_small/train").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        module = torchvision.models.resnet50(weights=None)
        _settled(module)
        torch.save(module.state_dict(), Path(place) / "resnet50.pth")
        network = fetch("torchvision:resnet50", "", Quiet(), str(Path(place) / "resnet50.pth"))
        image = Image(["photo"]).bind(network)
        arrays = image.prepare({"photo": [Blob.of_file(file) for file in files[: PHOTOS + CALIBRATION]]})
        encoded = image.encode({"image": arrays["image"][:PHOTOS]})
        calibration = image.encode({"image": arrays["image"][PHOTOS:]})
        pixels = torch.from_numpy(encoded["pixels"])
        module.fc = torch.nn.Identity()
        module.eval()
        last = module.to(memory_format=torch.contiguous_format)
        exported = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(last, (pixels[:1],), exported, input_names=["x"], dynamo=False,
                              dynamic_axes={"x": {0: "n"}})  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = core_count()  # its own choice leaves the cores that a process is held to
        ort = onnxruntime.InferenceSession(exported.getvalue(), options, providers=["CPUExecutionProvider"])

        def eager() -> np.ndarray:
            with torch.inference_mode():
                return module(pixels).numpy()

        ways: dict[str, Way] = {
            "PyTorch, eager": (eager, PHOTOS),
            "ONNX Runtime, by hand": (lambda: ort.run(None, {"x": encoded["pixels"]})[0], PHOTOS),
        }
        sessions = forms(network, [calibration], Path(place) / "int8")
        for name, session in sessions.items():
            ways[name] = (lambda own=session: own.run(encoded)["embedding"], PHOTOS)
        found = measured(ways, "PyTorch, eager")
        fastest = sessions[f"headstart {OpenVINO().precisions()[0]}"]
        some = {"image": arrays["image"][:PHOTOS]}
        taken = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            embedded(image, fastest, some)
            taken.append(time.perf_counter() - started)
        rate = PHOTOS / statistics.median(taken)
        alone = found[f"headstart {OpenVINO().precisions()[0]}"]["rows_per_s"]
        return {
            "what": f"ResNet-50, {PHOTOS} photos of 224 x 224",
            **_with(found),
            "from_jpeg": {"rows_per_s": round(rate, 2), "share": round(rate / alone, 3)},
        }


def _settled(module: Any) -> None:
    """Give batch norms the statistics of noise: with those of a new network, numbers grow from layer to layer."""
    module.train()
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.momentum = None
    with torch.no_grad():
        module(torch.randn(16, 3, 224, 224))
    module.eval()


def recordings() -> dict[str, Any]:
    """Wav2Vec2-base: recordings of several lengths to vectors."""
    import transformers

    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        folder = Path(place) / "wav2vec2"
        transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
        network = replace(fetch(str(Backbone("local", str(folder)).reference), "", Quiet()), use="embed")
        rng = np.random.default_rng(0)
        clips = [_voice(rng, seconds) for seconds in SECONDS]
        encoded = {"samples": np.concatenate(clips), "lengths": np.array([len(each) for each in clips], np.int32)}
        module = transformers.Wav2Vec2Model.from_pretrained(folder).eval()

        def eager() -> np.ndarray:
            with torch.inference_mode():
                return np.stack([module(torch.from_numpy(each)[None]).last_hidden_state[0].mean(0).numpy()
                                 for each in clips])  # fmt: skip

        ways: dict[str, Way] = {"PyTorch, eager, one by one": (eager, len(clips))}
        for name, session in forms(network, [encoded], Path(place) / "int8").items():
            ways[name] = (lambda own=session: own.run(encoded)["embedding"], len(clips))
        seconds = f"{len(clips)} recordings of {min(SECONDS)} to {max(SECONDS)} s"
        return {"what": f"Wav2Vec2-base, {seconds}", **_with(measured(ways, next(iter(ways))))}


def writing() -> dict[str, Any]:
    """GPT-2 of 124 million weights: tokens that follow a prompt of 64, of one text and of eight side by side."""
    import transformers
    from tokenizers import Tokenizer, models

    from headstart.formats.torch import Torch

    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        folder = Path(place) / "gpt2"
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
        network = replace(fetch(Backbone("local", str(folder)).reference, "", Quiet()), use="generate")
        engine = OpenVINO()
        sessions = {"transformers' generate": Torch().open(network, "f32", core_count())}
        for precision in engine.precisions():
            sessions[f"headstart {precision}"] = engine.open(network, precision, core_count())
        sizes = {}
        for form in ("int8", "int4"):
            small = engine.compress(network, form, [], Path(place) / form)
            sessions[f"headstart {form}"], sizes[f"headstart {form}"] = start(small).session, small.backbone.size
        rng = np.random.default_rng(0)
        prompts = [{"ids": rng.integers(1, 50_000, rows * PROMPT), "lengths": np.full(rows, PROMPT)} for rows in SIDES]
        taken: dict[str, list[list[float]]] = {name: [] for name in sessions}
        for number in range(ROUNDS + 1):
            for name, session in sessions.items():
                steps = [_step(session, each) for each in prompts]
                if number:
                    taken[name].append(steps)
        judged = {"ids": rng.integers(1, 50_000, 600), "lengths": np.array([200, 100, 300])}
        judged["weights"] = np.ones(600, np.float32)
        nats = {name: session.run(judged)["nats"] for name, session in sessions.items()}
        first = next(iter(sessions))
        rates = {
            name: [rows / statistics.median(each) for rows, each in zip(SIDES, zip(*rounds, strict=True), strict=True)]
            for name, rounds in taken.items()
        }
        ways = {
            name: {
                "tokens_per_s": [round(each, 1) for each in rates[name]],
                "ratio": [round(a / b, 2) for a, b in zip(rates[name], rates[first], strict=True)],
                "nats_off": round(float(np.abs(nats[name] / nats[first] - 1).max()), 6),
                "megabytes": round(sizes.get(name, network.backbone.size) / 1e6, 1),
            }
            for name in sessions
        }
        return {"what": "GPT-2 of 124 million weights", "sides": SIDES, **_with(ways)}


def dictation() -> dict[str, Any]:
    """Whisper of tiny's size: a window of half a minute written down, encoder and greedy decoder."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, models

    from headstart.formats.torch import Torch
    from headstart.modalities._spectra import log_mel

    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        folder, layers, heads, wide = Path(place) / "whisper", 4, 6, 1536
        sizes = {"d_model": 384, "vocab_size": 51_865}
        for part in ("encoder", "decoder"):
            sizes |= {f"{part}_layers": layers, f"{part}_attention_heads": heads, f"{part}_ffn_dim": wide}
        made = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**sizes))
        # It never stops by itself, and writes no times: each way writes as many tokens.
        own = {"max_length": WRITTEN, "suppress_tokens": list(range(50_257, 51_865)), "begin_suppress_tokens": None}
        own |= {"no_timestamps_token_id": 50_363, "_from_model_config": False}
        for name, each in own.items():
            setattr(made.generation_config, name, each)
        made.save_pretrained(folder)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
        tokenizer.save(str(folder / "tokenizer.json"))
        network = replace(fetch(Backbone("local", str(folder)).reference, "", Quiet()), use="transcribe")
        engine = OpenVINO()
        sessions = {"transformers' generate": Torch().open(network, "f32", core_count())}
        for precision in engine.precisions()[::-1]:
            sessions[f"headstart {precision}"] = engine.open(network, precision, core_count())
        for form in ("int8", "int4"):
            sessions[f"headstart {form}"] = start(engine.compress(network, form, [], Path(place) / form)).session
        rng = np.random.default_rng(0)
        mel = log_mel(_voice(rng, SPOKEN), network.preprocessing)[None]
        given = {"mel": mel, "lengths": np.array([int(16_000 * SPOKEN)])}

        def text(session: Any) -> np.ndarray:
            (stretch,) = session.generate(given, {"timestamps": False})
            return np.asarray(stretch["tokens"])

        texts = {name: text(session) for name, session in sessions.items()}
        taken: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                started = time.perf_counter()
                text(session)
                taken[name].append(time.perf_counter() - started)
        first = next(iter(sessions))
        ways = {
            name: {
                "seconds": round(statistics.median(each), 3),
                "ratio": round(statistics.median(taken[first]) / statistics.median(each), 2),
                "same_tokens": round(float((texts[name] == texts[first]).mean()), 3),
            }
            for name, each in taken.items()
        }
        tokens = len(texts[first])
        return {"what": f"Whisper of tiny's size, {SPOKEN:.0f} s and {tokens} tokens", **_with(ways)}


def boxes() -> dict[str, Any]:
    """Detectors of torchvision: one picture, decoded already, to boxes."""
    import torchvision

    from headstart.formats._openvino_regions import alike
    from headstart.formats.torch import Torch

    found = {}
    spots = np.random.default_rng(0).random((1, 3, HIGH // 16, WIDE // 16), np.float32)
    pixels = spots.repeat(16, 2).repeat(16, 3)
    with tempfile.TemporaryDirectory() as place:
        for name, architecture in DETECTORS.items():
            torch.manual_seed(0)
            module = torchvision.models.get_model(architecture, weights=None, weights_backbone=None, num_classes=5)
            _spread(module.eval(), torch.from_numpy(pixels[0]))
            weights = Path(place) / f"{architecture}.pth"
            torch.save(module.state_dict(), weights)
            network = replace(fetch(f"torchvision:{architecture}", "", Quiet(), str(weights)), use="detect")
            sessions = {"PyTorch": Torch().open(network, "f32", core_count())}
            # What bfloat16 loses, smaller.py tells of a trained one.
            for precision in OpenVINO().precisions()[::-1]:
                sessions[f"headstart {precision}"] = OpenVINO().open(network, precision, core_count())
            given, taken = {"pixels": pixels}, {each: list[float]() for each in sessions}
            answers = {each: session.run(given) for each, session in sessions.items()}
            for _ in range(ROUNDS):
                for each, session in sessions.items():
                    started = time.perf_counter()
                    session.run(given)
                    taken[each].append(time.perf_counter() - started)
            found[name] = {
                each: {
                    "ms": round(1e3 * statistics.median(times), 1),
                    "ratio": round(statistics.median(taken["PyTorch"]) / statistics.median(times), 2),
                    "alike": None if "bf16" in each else round(alike(answers[each], answers["PyTorch"]), 3),
                }
                for each, times in taken.items()
            }
    return {"what": f"One picture of {HIGH} x {WIDE}", **_with(found)}


def _spread(module: Any, picture: Any) -> None:
    """Let each layer give numbers that are about one apart, so that boxes do not all score the same."""

    def divided(layer: Any, _given: Any, output: Any) -> Any:
        apart = output.std()
        if apart > 0:
            layer.weight.data.div_(apart)
            output = output / apart
        return output

    layers = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Linear)]
    for each in layers:
        if each.bias is not None:
            torch.nn.init.zeros_(each.bias)
    hooks = [each.register_forward_hook(divided) for each in layers]
    with torch.no_grad():
        module([picture])
    for each in hooks:
        each.remove()


def single() -> dict[str, Any]:
    """One text at a time: a fitted model's whole answer, next to its network's graph alone on tokens that are ready."""
    import headstart
    from headstart.formats import _packing
    from headstart.formats import openvino as engine
    from headstart.stages.kept import open_for

    rows = table("banking77/train.csv")[: 40 * ALONE : 40]
    with tempfile.TemporaryDirectory() as place:
        some = write(Path(place) / "some.csv", draw(table("banking77/train.csv"), "category", 10, 0))
        model = headstart.fit(str(some), target="category", method="probe", out=str(Path(place) / "m"), curve="off")
        opened = open_for(model.runtime.bundle, Quiet())["text"]
        session = OpenVINO().open(opened.network, OpenVINO().precisions()[0], core_count())
        text = Text(["text"]).bind(opened.network)
        ready = []
        for row in rows:
            arrays = text.encode(text.prepare({"text": [row["text"]]}))
            room = (engine.CAPACITY, engine.ROWS, engine.MULTIPLE)
            (packed,) = _packing.batches(arrays["ids"], arrays["lengths"], *room)
            ready.append(session.job(packed))
        whole, alone = list[float](), list[float]()
        for number in range(ROUNDS + 1):
            for row, given in zip(rows, ready, strict=True):
                started = time.perf_counter()
                model.predict(row["text"])
                between = time.perf_counter()
                session.requests.request.infer(given, share_inputs=True, share_outputs=True)
                if number:
                    whole.append(between - started)
                    alone.append(time.perf_counter() - between)
    median = [1000 * statistics.median(each) for each in (whole, alone)]
    return {
        "what": f"MiniLM, {len(rows)} questions of banking77 one at a time",
        "rounds": ROUNDS,
        "engine": f"{opened.format} {opened.precision}",
        "answer_ms": round(median[0], 3),
        "graph_ms": round(median[1], 3),
        "ratio": round(median[0] / median[1], 3),
    }


def _step(session: Any, given: Mapping[str, np.ndarray]) -> float:
    """Return the seconds that a step takes, the prompt's share included."""
    started = time.perf_counter()
    count = len(list(session.generate(given, {"max_tokens": STEPS, "temperature": 0})))
    return (time.perf_counter() - started) / count


def _voice(rng: np.random.Generator, seconds: float) -> np.ndarray:
    at = np.arange(int(seconds * 16_000)) / 16_000
    pitch = 120 + 40 * np.sin(2 * np.pi * rng.uniform(1, 3) * at)
    tones = sum(np.sin(2 * np.pi * number * np.cumsum(pitch) / 16_000) / number for number in range(1, 6))
    made = tones * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * at)) + 0.1 * rng.standard_normal(len(at))
    return ((made - made.mean()) / made.std()).astype(np.float32)


def _with(ways: Mapping[str, Any]) -> dict[str, Any]:
    return {"rounds": ROUNDS, "ways": dict(ways)}


if __name__ == "__main__":
    torch.set_num_threads(core_count())
    print(json.dumps(globals()[sys.argv[1]](), indent=1))
