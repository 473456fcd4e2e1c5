"""Free text, from one column or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.dataset import as_text, table_rows
from headstart.core.modality import Modality
from headstart.core.source import Table

LONGEST = 20_000
"""Characters of a row that are read; far more than any encoder's tokens, and bounded, so that 1 MB costs little."""


@final
class Text(Modality):
    """The text of a row: the non-blank cells of its columns, joined by line breaks.

    `prepare` gives `text` (n,), texts; `encode` gives `ids`, flat token numbers, and `lengths` (n,).
    """

    pretrained = True

    def __init__(self, columns: Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        self._columns, self.tokenizer = tuple(columns), tokenizer

    @property
    def columns(self) -> Sequence[str]:
        """The text columns."""
        return self._columns

    @classmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> Text:
        """Remember the columns; there is nothing to learn."""
        return cls(columns)

    def spec(self) -> dict[str, Any]:
        """Return the columns."""
        return {"columns": list(self._columns)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Text:
        """Make the modality from its spec."""
        return cls(spec["columns"])

    def bind(self, network: Network) -> Text:
        """Return this modality with the network's tokenizer, cutting at its `max_length` tokens."""
        file = network.folder / network.preprocessing["tokenizer"]
        return Text(self._columns, _opened(str(file), file.stat().st_mtime_ns, network.preprocessing["max_length"]))

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return a nullable string for each column."""
        return {
            name: {
                "type": ["string", "null"],
                "description": "Free text.",
                "examples": ["My order has not arrived yet."],
            }
            for name in self._columns
        }

    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Return `text` (n,)."""
        texts = np.empty(table_rows(table), dtype=object)
        columns = [table[name] for name in self._columns if name in table]
        for row, cells in enumerate(zip(*columns, strict=True)):
            texts[row] = "\n".join(part for part in map(_clean, cells) if part)[:LONGEST]
        return {"text": texts}

    def encode(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `ids` (flat, int32) and `lengths` (n,) int32 of the texts."""
        if self.tokenizer is None:
            raise TypeError("This text modality is not bound to a network.")
        encoded = self.tokenizer.encode_batch_fast(list(arrays["text"]))
        ids = [each.ids for each in encoded]
        lengths = np.array([len(each) for each in ids], dtype=np.int32)
        flat = np.fromiter((token for each in ids for token in each), dtype=np.int32, count=int(lengths.sum()))
        return {"ids": flat, "lengths": lengths}

    def contents(self, arrays: Arrays) -> Sequence[str | bytes]:
        """Return the texts."""
        return list(arrays["text"])


@lru_cache(maxsize=4)
def _opened(file: str, _changed: int, longest: int) -> Tokenizer:
    """Return a tokenizer that cuts; reading a large one takes a second, and it is asked for with every prediction."""
    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def _clean(cell: Any) -> str:
    # A lone surrogate cannot be encoded as UTF-8, which tokenizers and hashes need.
    return as_text(cell).strip().encode("utf-8", "replace").decode("utf-8")
