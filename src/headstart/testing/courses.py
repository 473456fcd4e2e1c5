"""A toy course: short texts for a tiny network, which methods that change weights learn from in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import take
from headstart.core.backbone import Backbone, Network
from headstart.core.course import Course, Lesson
from headstart.core.method import Budget
from headstart.core.progress import Quiet
from headstart.core.task import Task
from headstart.formats.torch import Torch
from headstart.hubs.local import Local
from headstart.modalities.text import Text
from headstart.stages.examples import examples_of
from headstart.stages.networks import start
from headstart.tasks.classify import Classify
from headstart.testing.networks import WORDS, write_bert

ROWS = 280
OPTIONS: Mapping[str, Any] = {"epochs": 2, "batch": 32}


def toy_texts(rows: int = ROWS, seed: int = 0) -> list[str]:
    """Return texts of a few words that `write_bert`'s tokenizer knows."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(rows)]


def toy_network(folder: Path) -> Network:
    """Return a tiny BERT on disk, with random weights."""
    if not (folder / "config.json").is_file():
        write_bert(folder)
    return Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())


def toy_course(network: Network, folder: Path, *, task: type[Task] = Classify, **options: Any) -> Course:
    """Return a course whose answer is in the texts: what they ask for, or how often.

    Args:
        folder: where the work is kept.
        options: settings of the method beside `OPTIONS`.
    """
    texts = toy_texts()
    cells = _answers(task, texts)
    learnt = task.of("t", cells)
    modality, arrays = Text(["text"]), {"text": np.array(texts, dtype=object)}
    held = np.arange(len(texts)) % 4 == 0
    opened = start(network, "", 1)
    vectors = opened.session.run(modality.bind(network).encode(take(arrays, np.arange(len(texts)))))["embedding"]
    return Course(
        network=network,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=examples_of(modality, network, arrays, 0),
        train=np.flatnonzero(~held),
        held=np.flatnonzero(held),
        lessons={"t": Lesson(learnt, learnt.encode(cells), np.ones(len(texts), bool))},
        folder=folder,
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        options={**OPTIONS, **options},
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def _answers(task: type[Task], texts: list[str]) -> list[str]:
    asked = [sorted({"order", "parcel", "refund", "invoice"} & set(text.split())) for text in texts]
    made = {
        "classes": ["order" if {"order", "parcel"} & set(each) else "other" for each in asked],
        "tags": ["|".join(each) for each in asked],
        "numbers": [f"{len(text.split()) + 0.5 * len(each):.1f}" for text, each in zip(texts, asked, strict=True)],
    }
    return max(made.values(), key=task.claims)
