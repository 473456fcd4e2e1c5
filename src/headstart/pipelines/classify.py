"""Name the class of a text, picture or sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.pipeline import Pipeline
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
            given = session.run(arrays)
            shares = given["probabilities"] if "probabilities" in given else softmax(given["logits"])
            for row in shares:
                best = np.argsort(-row, kind="stable")[: int(options["top"])]
                top = [{"label": label(network, int(each)), "score": round(float(row[each]), 6)} for each in best]
                records.append({**top[0], "top": top})
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each class."""
        return "\n".join(f"{each['score']:8.2%}  {each['label']}" for each in record["top"])


def label(network: Network, number: int) -> str:
    """Return a class's name, or its number where the network has no names."""
    return str(network.labels[number]) if number < len(network.labels) else str(number)
