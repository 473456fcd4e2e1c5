"""Turn a text, picture or sound into a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.files import atomic_file
from headstart.core.pipeline import Pipeline
from headstart.pipelines._inputs import encoded


@final
class Embed(Pipeline):
    """The vector that the network gives before its own head."""

    left_out = "-o FILE.npy, .parquet or .jsonl keeps all numbers"

    def supports(self, network: Network) -> str:
        """Every network that classifies or encodes gives vectors."""
        return "" if "embed" in network.backbone.uses else "it gives no vectors"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `embedding`, a list of numbers, for each input."""
        parts = [session.run(arrays)["embedding"] for arrays in encoded(network, inputs)]
        return [{"embedding": [float(value) for value in row]} for part in parts for row in part]

    def show(self, record: Mapping[str, Any]) -> str:
        """Return the first numbers and how many there are."""
        vector = record["embedding"]
        return f"{', '.join(f'{value:.4f}' for value in vector[:8])}, … ({len(vector)} numbers)"

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path) -> bool:
        """Write a .npy file of all vectors, (n, width); other suffixes are tables."""
        if out.suffix.lower() != ".npy":
            return False
        vectors = np.array([each["embedding"] for each in records], np.float32)
        with atomic_file(out) as part, part.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        return True
