"""Options that take several values."""

from __future__ import annotations

import argparse
from typing import Any


class Joined(argparse.Action):
    """Values separated by commas; an option that is given twice adds to them."""

    def __call__(self, _parser: Any, chosen: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        """Keep the values."""
        before = getattr(chosen, self.dest)
        setattr(chosen, self.dest, f"{before},{values}" if before else values)
