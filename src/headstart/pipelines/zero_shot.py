"""Choose among classes that the network was never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.pipeline import Pipeline
from headstart.pipelines._classes import lines, ranked
from headstart.pipelines._inputs import softmax
from headstart.pipelines._text import arrays_of, encode, plain, reader

AT_ONCE = 64
"""Pairs of a text and a class that are read together."""


@final
class ZeroShot(Pipeline):
    """How far a text entails "This example is CLASS.", for each class (Yin et al. 2019)."""

    options: Mapping[str, Any] = {"labels": None, "template": "This example is {}.", "several": False, "top": 5}

    def supports(self, network: Network) -> str:
        """Return why the network does not compare sentences."""
        if "zero_shot" not in network.backbone.uses:
            return "it was not trained to tell whether a sentence follows from another"
        return "" if entailment(network) is not None else "none of its classes is called entailment"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `label`, `score` and `top` for each text.

        Scores are shares among the classes, which sum to 1; with `several`, each class is judged alone.

        Raises:
            UsageError: no classes are given, or the template has no place for them.
        """
        labels, template = _labels(options["labels"]), str(options["template"])
        if "{}" not in template:
            raise UsageError(f"The template '{template}' has no place for a class.", allowed="The place is written {}.")
        pairs = [(plain(each), template.replace("{}", name)) for each in inputs for name in labels]
        logits = np.concatenate(
            [_compared(network, session, pairs[start : start + AT_ONCE]) for start in range(0, len(pairs), AT_ONCE)]
        ).reshape(len(inputs), len(labels), -1)
        yes = entailment(network) or 0
        if options["several"] or len(labels) == 1:
            shares = softmax(logits[..., [-1 if yes == 0 else 0, yes]])[..., 1]
        else:
            shares = softmax(logits[..., yes])
        return [ranked(labels, row, options["top"]) for row in shares]

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each class."""
        return lines(record)


def entailment(network: Network) -> int | None:
    """Return the number of the class that means "it follows", or None."""
    names = [str(each).casefold() for each in network.labels]
    return next((number for number, name in enumerate(names) if name.startswith("entail")), None)


def _labels(given: Any) -> list[str]:
    names = given.split(",") if isinstance(given, str) else list(given or ())
    found = list(dict.fromkeys(str(each).strip() for each in names if str(each).strip()))
    if not found:
        raise UsageError(
            "Zero-shot classification needs the classes to choose from.", hint="For example: --labels refund,delivery"
        )
    return found


def _compared(network: Network, session: Session, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    encodings = encode(reader(network, "only_first"), pairs)
    return session.run(arrays_of(encodings))["logits"].astype(np.float64)
