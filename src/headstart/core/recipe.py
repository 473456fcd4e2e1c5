"""The Recipe noun: all that `fit` needs besides the data, as a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from headstart.core.errors import UsageError, listed, nearest


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted.

    Args:
        target: columns to predict.
        input: columns to predict from; empty means: inferred.
        task: for a target, the task to use instead of the inferred one; under an empty name, what a network learns to
            answer by itself, a name of `objectives/`.
        group: a column whose rows never stand on both sides of a split (a speaker, a patient, a product); or empty.
        backbone: a reference `hub:name`, several of them separated by commas, or `auto`.
        weights: a local file whose weights are put into the named backbone; or empty.
        method: a method's name, or `auto`.
        budget: seconds that fitting may take; 0 means no limit.
        precision_target: share of right answers that automated rows must reach, with 95 % confidence.
        test_share: share of rows held out for the report where no test file is given.
        seed: makes the result repeatable.
        options: settings of the method, such as `epochs` and `rate`; see `training/plan.py`.
        search: trials in which settings of the method are searched; 0 takes them as they are.
        curve: `auto` measures a quick learning curve, `on` one of more rows, `off` none.
        hourly_price: price of one hour of this machine, for the cost per 1,000 predictions.
    """

    target: Sequence[str] = ()
    input: Sequence[str] = ()
    task: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    backbone: str = "auto"
    weights: str = ""
    method: str = "auto"
    budget: float = 0.0
    precision_target: float = 0.95
    test_share: float = 0.2
    seed: int = 0
    hourly_price: float = 0.10
    options: Mapping[str, Any] = field(default_factory=dict)
    search: int = 0
    curve: str = "auto"

    def __post_init__(self) -> None:
        for name, low, high in (("precision_target", 0.5, 0.9999), ("test_share", 0.02, 0.8)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}.", allowed=f"It must lie between {low} and {high}.")
        if self.search < 0 or self.search != int(self.search):
            raise UsageError(f"search is {self.search}.", allowed="It is a number of trials, 0 for none.")
        if self.curve not in ("auto", "on", "off"):
            raise UsageError(f"curve is '{self.curve}'.", allowed="It is auto, on or off.")
        if self.budget < 0 or self.hourly_price < 0:
            raise UsageError("budget and hourly_price cannot be negative.")

    def to_toml(self) -> str:
        """Return the recipe as TOML (json.dumps writes TOML's strings, numbers and arrays)."""
        values = asdict(self)
        tables = {name: values.pop(name) for name in ("task", "options")}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        for name, table in tables.items():
            if table:
                lines += ["", f"[{name}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in table.items())]
        return "\n".join(lines) + "\n"

    @staticmethod
    def from_toml(path: Path) -> Recipe:
        """Read a recipe.

        Raises:
            UsageError: it is not TOML, or names a setting that does not exist.
        """
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"The recipe '{path}' cannot be read: {error}.") from error
        known = [each.name for each in fields(Recipe)]
        for name in values:
            if name not in known:
                raise UsageError(
                    f"The recipe '{path}' has a setting '{name}'.",
                    allowed=f"Settings: {listed(known, 20)}.",
                    hint=nearest(name, known),
                )
        return Recipe(**values)


def seconds(text: str) -> float:
    """Return `90`, `90s`, `10m` or `2h` as seconds.

    Raises:
        UsageError: it is none of these.

    >>> seconds("10m")
    600.0
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"'{text}' is not a time.", allowed="Write 90, 90s, 10m or 2h.")
    return value * units[unit]
