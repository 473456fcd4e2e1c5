"""Write: learn answers to what is asked, or simply texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.dataset import Dataset, table_rows, take_rows
from headstart.core.errors import DataError
from headstart.core.metrics import mean_interval, wilson
from headstart.core.objective import Objective
from headstart.core.source import Table
from headstart.objectives import _overlap
from headstart.objectives._dialogues import ALLOWED, Form, answer, asked, form_of
from headstart.objectives._likelihood import perplexity
from headstart.objectives._written import PLAIN, Written, joined, written
from headstart.pipelines._chat import template_of

AT_ONCE = 32
"""Lines judged at a time."""
LETTERS = 3
"""Letters of a token, at the least, on which the length of an answer is planned."""
SHORTEST, LONGEST = 16, 512
"""Tokens that an answer may have, at the least and at the most, when it is judged."""


@final
class Generate(Objective):
    """Next-token cross-entropy on what is to be written: the answers alone, or all of a plain text.

    Rows are instruction (and input) with output, question with answer, prompt with completion, conversations, or text.
    All but prompts and texts are written with the model's own chat template; one that has none is given a plain one.
    """

    primary = "perplexity"
    higher = False
    answered = 100
    defaults: Mapping[str, Any] = {
        "epochs": 3,
        "batch": 16,
        "rate": 5e-5,
        "decay": 1.0,
        "weight_decay": 0.01,
        "warmup": 0.05,
        "patience": 2,
    }

    def __init__(self, form: Form, longest: int) -> None:
        self.form = form
        self.options = {"temperature": 0.0, "max_tokens": longest}
        self.beside = [form.more] if form.more else []
        self.usual = {} if form.kind in ("prompt", "text") else {"chat": True}

    @classmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> Generate:
        """Find out what the columns are, and how long answers are.

        Raises:
            DataError: no column is known, or there is no answer in the training rows.
        """
        form = form_of(dataset.table, columns)
        table = take_rows(dataset.table, train)
        said = [answer(form, table, row) for row in range(table_rows(table))]
        if form.kind != "text" and not any(said):
            raise DataError(f"There is no answer in the column '{form.target}'.", allowed=ALLOWED)
        usual = float(np.quantile([len(each) for each in said if each] or [0], 0.95)) / LETTERS
        return cls(form, int(min(max(math.ceil(usual), SHORTEST), LONGEST)))

    @property
    def columns(self) -> tuple[str, str]:
        """What is asked, and what is answered."""
        return self.form.read, self.form.target

    def settings(self) -> dict[str, Any]:
        """Return the form of the rows, and how answers are judged."""
        return {"form": self.form.told(), "options": dict(self.options)}

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> Generate:
        """Make the objective again from its settings."""
        return cls(Form(**settings["form"]), settings["options"]["max_tokens"])

    def ready(self, network: Network) -> dict[str, Any]:
        """Return a plain chat template for a model that brings none, in its `preprocessing`."""
        if self.form.kind in ("prompt", "text") or template_of(network):
            return {}
        return {"preprocessing": {**network.preprocessing, "chat_template": PLAIN}}

    def examples(self, network: Network, table: Table, seed: int) -> Written:
        """Return rows with weights: 1 where the assistant, or the text, goes on.

        Raises:
            DataError: a conversation cannot be read, or the network's chat template refuses it.
        """
        return written(network, self.form, table)

    def inputs(self, table: Table) -> list[Any]:
        """Return prompts and conversations without their last answers; nothing for plain texts."""
        if self.form.kind == "text":
            return []
        return [asked(self.form, table, row) or " " for row in range(table_rows(table))]

    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return how alike written and right answers are: `exact_match`, `word_f1`, `chrf`, and their intervals."""
        if not records:
            return {}
        right = [answer(self.form, table, row) for row in range(table_rows(table))]
        found = _overlap.each([str(record["text"]) for record in records], right)
        judged: dict[str, Any] = {"rows": len(right)}
        for name, values in found.items():
            known = np.array([value for value, wanted in zip(values, right, strict=True) if wanted] or [0.0])
            interval = wilson(known.sum(), len(known)) if name == "exact_match" else _within(mean_interval(known))
            judged |= {name: float(known.mean()), f"{name}_ci": interval}
        return judged

    def measure(self, network: Network, session: Session, table: Table, seed: int) -> dict[str, Any]:
        """Return the `perplexity` of the answers, and `bits_per_byte`, which can be compared between tokenizers."""
        lines = [part for parts in written(network, self.form, table).lines for part in parts]
        nats, tokens = np.zeros(len(lines)), np.array([float(each.weights[1:].sum()) for each in lines])
        for start in range(0, len(lines), AT_ONCE):
            nats[start : start + AT_ONCE] = session.run(joined(lines[start : start + AT_ONCE]))["nats"]
        size = sum(each.learnt for each in lines)
        bits = float(nats.sum()) / math.log(2) / size if size else None
        return perplexity(nats, tokens, "perplexity", seed) | {"bits_per_byte": bits, "tokens": int(tokens.sum())}


def _within(interval: Sequence[float]) -> list[float]:
    """Return an interval of a share, which lies between 0 and 1."""
    return [min(max(bound, 0.0), 1.0) for bound in interval]
