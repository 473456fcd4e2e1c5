"""The same answer for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, row_count
from headstart.core.head import Head


@final
class Constant(Head):
    """Scores that do not depend on the row: what is left when there is no signal.

    Args:
        values: (width,).
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """Nothing but the number of rows."""
        return ()

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        return np.tile(self.values, (row_count(arrays), 1))

    def spec(self) -> dict[str, Any]:
        """Return no settings."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the values."""
        return {"values": self.values}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Constant:
        """Make the head from its arrays."""
        return cls(arrays["values"])
