"""Networks that answer by themselves, as small as can be: the session is a fake, all above it is real."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import pipelines
from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Backbone, Network
from headstart.core.head import Head
from headstart.modalities.text import Text
from headstart.runtime import Runtime, Target
from headstart.server.models.piped import Whole
from headstart.stages.networks import start
from headstart.tasks.regress import Regress
from headstart.testing.courses import toy_network
from headstart.testing.files import recording
from headstart.testing.networks import write_bert
from headstart.testing.toys import ToyHead, ToyTask, ToyText

TEMPLATE = "{% for each in messages %}{{ each.role }} {{ each.content }} {% endfor %}"
END = 0


@final
class Parrot(Session):
    """Repeats the prompt's last tokens, then ends: `again` times, or for ever."""

    def __init__(self, again: int = 0) -> None:
        self.again = again

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        raise AssertionError("it only writes")

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        ends = np.cumsum(arrays["lengths"])
        lasts = [arrays["ids"][max(end - 3, 0) : end] for end in ends]
        for step in range(settings["max_tokens"]):
            tokens = [last[step % len(last)] for last in lasts]
            if self.again and step >= self.again * 3:
                tokens = [-1 for _ in lasts]
            yield {"tokens": np.array(tokens)}
            if tokens[0] < 0:
                return


def letters(folder: Path, again: int = 0) -> Whole:
    """Return a network that writes letters, without a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"<s>": END, **{each: number for number, each in enumerate("abcdefghijklmnopqrstuvwxyz .", start=1)}}
    (folder / "letters.json").write_text(json.dumps(numbers))
    network = _network(folder, {"vocabulary": "letters.json", "max_length": 100})
    return Whole("generate", pipelines.registry.get("generate")(), network, Parrot(again))


def talker(folder: Path, again: int = 2) -> Whole:
    """Return a network that writes words and has a chat template."""
    write_bert(folder)
    told = {"tokenizer": "tokenizer.json", "max_length": 64, "chat_template": TEMPLATE}
    return Whole("generate", pipelines.registry.get("generate")(), _network(folder, told), Parrot(again))


def embedder(folder: Path) -> Whole:
    """Return a tiny encoder with random weights, on this machine's own engine."""
    network = toy_network(folder)
    return Whole("embed", pipelines.registry.get("embed")(), network, start(network, "", 1).session)


@final
class Spelt(Session):
    """Hears the same letters in every recording, one frame each."""

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        wanted = [5, 4, 6, 0, 6, 7]
        frames = [max(1, int(length) // 320) for length in arrays["lengths"]]
        logits = np.zeros((sum(frames), 8), np.float32)
        at = 0
        for count in frames:
            for frame in range(count):
                logits[at + frame, wanted[frame] if frame < len(wanted) else 0] = 9
            at += count
        return {"logits": logits, "frames": np.array(frames)}


def listener(folder: Path) -> Whole:
    """Return a network that writes down the same word whatever it hears."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = {"<pad>": 0, "<s>": 1, "</s>": 2, "|": 3, "e": 4, "h": 5, "l": 6, "o": 7}
    (folder / "vocab.json").write_text(json.dumps(symbols))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "word_delimiter_token": "|"}))
    (folder / "config.json").write_text(json.dumps({"conv_stride": [320], "conv_kernel": [320]}))
    config = {"conv_stride": [320], "conv_kernel": [320], "pad_token_id": 0}
    network = Network(
        folder=folder,
        architecture="wav2vec2",
        config=config,
        weights=folder / "none",
        backbone=Backbone("local", str(folder), modality="audio", uses=("transcribe",)),
        preprocessing={"sampling_rate": 16_000, "do_normalize": False},
        use="transcribe",
    )
    return Whole("transcribe", pipelines.registry.get("transcribe")(), network, Spelt())


def numbers_runtime() -> Runtime:
    """Return a model that predicts the length of a text, a number."""
    task = Regress.of("length", [1.0, 2.0, 3.0, 4.0])
    return Runtime(None, [ToyText(("text",))], {}, {"length": Target(task, ToyHead(task.width))})


def two_colours() -> Runtime:
    """Return a model that predicts two labels."""
    tasks = [ToyTask("first"), ToyTask("second")]
    return Runtime(None, [ToyText(("text",))], {}, {each.target: Target(each, ToyHead(each.width)) for each in tasks})


def _network(folder: Path, preprocessing: Mapping[str, Any]) -> Network:
    return Network(
        folder=folder,
        architecture="parrot",
        config={},
        weights=folder / "none",
        backbone=Backbone("local", str(folder), modality="text", uses=("generate",)),
        preprocessing=preprocessing,
        use="generate",
    )


@final
class Sign(Head):
    """Takes the first three numbers of a vector for scores."""

    reads = ("embedding",)

    def scores(self, arrays: Arrays) -> np.ndarray:
        return np.asarray(arrays["embedding"])[:, :3]

    def spec(self) -> dict[str, Any]:
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Sign:
        return cls()


def fitted(folder: Path) -> Runtime:
    """Return a model that reads texts with a tiny encoder, and labels them with a colour."""
    network = toy_network(folder)
    task = ToyTask()
    text = Text(["text"]).bind(network)
    return Runtime(None, [text], {"text": start(network, "", 1).session}, {task.target: Target(task, Sign())})


def sound(seconds: float, rate: int = 16_000) -> bytes:
    """Return a WAV file of a tone."""
    return recording(0, seconds=seconds, rate=rate).read()


def base64(data: bytes) -> str:
    """Return bytes in base64."""
    return b64encode(data).decode()
