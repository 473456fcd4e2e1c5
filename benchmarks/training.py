"""Fine-tuning: seconds of a step next to a hand-written loop and to transformers' Trainer, and what the ladder reaches.

    python benchmarks/training.py steps | ladder banking77|sst2|clothing|tile | boxes | speech

Both are of the whole of headstart's own work: the loop with its checkpoints and progress, and the whole command.
"""

from __future__ import annotations

import contextlib
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import brief, fit
from data import DATA, MOBILE, SHARED

ROWS, BATCH, ROUNDS = 1280, 32, 5
TRAINER_LENGTH, TRAINER_BATCH, TRAINER_ROWS = 128, 8, 64
"""Fixed padding, and the Trainer's own batch; fewer rows, because each takes so long."""


def texts() -> tuple[list[str], list[str]]:
    with (DATA / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(rows))[:ROWS]
    return [rows[each]["text"] for each in chosen], [rows[each]["category"] for each in chosen]


def steps(scratch: Path, device: str = "cpu") -> dict[str, Any]:
    """Return seconds for each row of one epoch, by interleaved rounds."""
    words, labels = texts()
    runs: dict[str, Callable[[], float]] = dict(_entrants(scratch, words, labels, device))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 1):
        for name, run in runs.items():
            seconds = run()
            if round_:
                taken[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in taken.items()}
    ours = medians["headstart"]
    return {
        "rows": ROWS,
        "batch": BATCH,
        "milliseconds_a_row": {name: round(1000 * each, 2) for name, each in medians.items()},
        "ratio_to_headstart": {name: round(each / ours, 2) for name, each in medians.items()},
    }


def _entrants(
    scratch: Path, words: list[str], labels: list[str], device: str
) -> Iterator[tuple[str, Callable[[], float]]]:
    import torch

    from headstart.core.course import Course, Lesson
    from headstart.core.method import Budget
    from headstart.core.progress import Quiet
    from headstart.core.threads import core_count
    from headstart.methods._tuning import linear_start, opened, supervised
    from headstart.modalities.text import Text
    from headstart.stages.course import opened_for_training
    from headstart.stages.examples import examples_of
    from headstart.stages.networks import fetch
    from headstart.tasks.classify import Classify
    from headstart.training.batches import batches
    from headstart.training.loop import LONGEST, Loop, chosen_precision
    from headstart.training.plan import Plan

    torch.set_num_threads(core_count())
    network = fetch("builtin:all-MiniLM-L6-v2", "", Quiet())
    modality, task = Text(["text"]), Classify.of("label", labels)
    arrays = {"text": np.array(words, dtype=object)}
    examples = examples_of(modality, network, arrays, 0)
    y = task.encode(labels)
    course = Course(
        network=network, open=opened_for_training, examples=examples, train=np.arange(ROWS), held=np.arange(64),
        lessons={"label": Lesson(task, y, np.ones(ROWS, bool))}, folder=scratch / "run", seed=0, budget=Budget(),
        threads=core_count(), progress=Quiet(),
        vectors=np.random.default_rng(0).normal(size=(ROWS, 384)).astype(np.float32),
    )  # fmt: skip
    start = linear_start(course)
    plan = Plan(epochs=1, batch=BATCH)
    autocast = chosen_precision("auto") == "bf16"

    def ours() -> float:
        learner = supervised(course, opened(course).trainable(), start)
        loop = Loop(learner, examples, course.train, plan, lambda: 0.0, scratch / "run", seed=0, budget=Budget(),
                    progress=Quiet())  # fmt: skip
        loop.run()
        return loop.state.seconds / ROWS

    def by_hand() -> float:
        module = opened(course).trainable().module
        module, head = module.to(device), torch.nn.Linear(384, task.width).to(device)
        optimizer = torch.optim.AdamW([*module.parameters(), *head.parameters()], lr=2e-4, fused=True)
        module.train()
        starts = np.cumsum(examples.lengths) - examples.lengths
        began = time.perf_counter()
        for rows in batches(examples.sizes, course.train, BATCH, LONGEST, 0, 0):
            width = int(examples.lengths[rows].max())
            ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
            for at, row in enumerate(rows):
                length = int(examples.lengths[row])
                ids[at, :length] = torch.from_numpy(examples.ids[starts[row] : starts[row] + length].astype(np.int64))
                mask[at, :length] = 1
            ids, mask, gold = ids.to(device), mask.to(device), torch.from_numpy(y[rows]).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                hidden = module(input_ids=ids, attention_mask=mask).last_hidden_state
                pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                loss = torch.nn.functional.cross_entropy(
                    head(torch.nn.functional.normalize(pooled.float(), dim=1)), gold
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / ROWS

    yield "headstart", ours
    yield "a hand-written loop", by_hand
    yield (
        "transformers' Trainer, f32, padded to 128",
        lambda: _trainer(scratch, network.folder, words, y, task.width, device),
    )


def _trainer(scratch: Path, folder: Path, words: list[str], y: np.ndarray, classes: int, device: str) -> float:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes)
    encoded = tokenizer(words[:TRAINER_ROWS], padding="max_length", truncation=True, max_length=TRAINER_LENGTH)
    rows = [
        {**{name: each[row] for name, each in encoded.items()}, "labels": int(y[row])} for row in range(TRAINER_ROWS)
    ]
    settings = transformers.TrainingArguments(
        output_dir=str(scratch / "trainer"), num_train_epochs=1, report_to=[], save_strategy="no", disable_tqdm=True,
        per_device_train_batch_size=TRAINER_BATCH, logging_strategy="no", use_cpu=device == "cpu",
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=settings, train_dataset=rows)
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it measured
        trainer.train()
    return (time.perf_counter() - began) / TRAINER_ROWS


PICTURES = ["--backbone", "torchvision:mobilenet_v2", "--weights", MOBILE, "--target", "label", "--method", "finetune",
            "--set", "frozen=half"]  # fmt: skip
LADDERS: dict[str, tuple[str, list[Any]]] = {
    "banking77": (
        "category",
        [DATA / "banking77/train.csv", "--test", DATA / "banking77/test.csv", "--target", "category", "--budget", "6m"],
    ),
    "sst2": (
        "label",
        [DATA / "sst2/train.csv", "--test", DATA / "sst2/test.csv", "--target", "label", "--method", "finetune"],
    ),
    "clothing": ("label", [DATA / "clothing_small/train", "--test", DATA / "clothing_small/test", *PICTURES]),
    "tile": ("label", [DATA / "magnetic_tile/images", *PICTURES]),
}
"""For each, the target and the arguments of `fit`."""


def ladder(scratch: Path, name: str) -> dict[str, Any]:
    """Return what a whole command reaches on its test rows, and its ladder."""
    target, arguments = LADDERS[name]
    report = fit(scratch, *arguments)
    rungs = [{key: each[key] for key in ("name", "score", "seconds", "kept", "why")} for each in report["ladder"]]
    return {**brief(report, target), "ladder": rungs}


def boxes(scratch: Path) -> dict[str, Any]:
    """YOLOX-nano, pretrained on COCO, learns the cells of blood smears by the whole command."""
    weights = SHARED / "weights/yolox_nano/yolox_nano.onnx"
    report = fit(scratch, DATA / "bccd", "--task", "detect", "--backbone", f"local:{weights}")
    return {**_told(report, "map50", "map", "map_ci"), "network": "YOLOX-nano"}


def speech(scratch: Path) -> dict[str, Any]:
    """Digits of a speaker whom nobody has heard, by a network from scratch and by one on a voice detector's layers."""
    subprocess.run([sys.executable, str(Path(__file__).parent / "digits.py"), scratch / "digits"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    table, test = scratch / "digits/train.csv", scratch / "digits/test.csv"
    detector = ["--weights", SHARED / "weights/silero_vad/silero_vad_16k.safetensors"]
    found = {}
    for network, more in (("builtin:ctc-small", []), ("builtin:ctc-silero", detector)):
        report = fit(scratch, table, "--test", test, "--task", "transcribe", "--backbone", network, *more)
        found[network] = _told(report, "wer", "wer_ci", "cer")
    return found


def _told(report: dict[str, Any], *names: str) -> dict[str, Any]:
    epochs = len(report["trained"].get("epochs", []))
    figures = {name: report["metrics"].get(name) for name in names}
    return {**figures, "epochs": epochs, "rows": report["rows"], "train_rows": report["data"]["train_rows"],
            "seconds": report["wall"], "verdict": report["verdict"]}  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(globals()[sys.argv[1]](Path(place), *sys.argv[2:]), indent=1))
