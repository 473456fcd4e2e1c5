"""Name the class of a text, picture or sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.pipeline import Pipeline
from headstart.pipelines._classes import lines, ranked
from headstart.pipelines._inputs import encoded, softmax


@final
class Classify(Pipeline):
    """The most probable classes of the network's own head, with their probabilities."""

    options: Mapping[str, Any] = {"top": 5}

    def supports(self, network: Network) -> str:
        """Return why the network has no classes."""
        return "" if "classify" in network.backbone.uses else "it has no classes of its own"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return for each input `label`, `score`, and `top`: the classes in order of their probability."""
        records = []
        for arrays in encoded(network, inputs):
            shares = probabilities(network, session.run(arrays))
            names = [label(network, number) for number in range(shares.shape[1])]
            records += [ranked(names, row, options["top"]) for row in shares]
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each class."""
        return lines(record)


def probabilities(network: Network, given: Arrays) -> np.ndarray:
    """Return a session's answer as probabilities (n, classes).

    Several labels at once, and a single one, are judged each on its own; a regression's value stays as it is.
    """
    if "probabilities" in given:
        return given["probabilities"]
    logits, kind = given["logits"], network.config.get("problem_type")
    if kind == "regression":
        return logits
    if kind == "multi_label_classification" or logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits))
    return softmax(logits)


def label(network: Network, number: int) -> str:
    """Return a class's name, or its number where the network has no names."""
    return str(network.labels[number]) if number < len(network.labels) else str(number)
