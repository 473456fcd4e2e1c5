"""Outlook: what a measured learning curve says about more labels, as figures and sentences for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.method import Job
from headstart.stages.curve import (
    FEW_PER_CLASS,
    HORIZON,
    NEAR_HORIZON,
    WORTH,
    Measured,
    draws_of,
)
from headstart.stages.forecast import Forecast, forecast

STEPS = 9
"""Sizes between today's and the horizon for which a forecast is listed."""


@dataclass(frozen=True)
class Line:
    """One method's curve on held-out training rows.

    Args:
        measured: the stand-in's curve.
        draws: (draws, s) of its errors.
        fitted: the forecast.
    """

    measured: Measured
    draws: np.ndarray
    fitted: Forecast

    def points(self) -> list[dict[str, float]]:
        """Return what was measured, with 90 % bands."""
        low, high = np.quantile(self.draws, [0.05, 0.95], axis=0)
        return _records(self.measured.sizes, self.measured.errors, low, high)

    def at(self, sizes: np.ndarray) -> list[dict[str, float]]:
        """Return what is expected at some sizes, with 90 % bands."""
        return _records(sizes, *self.fitted.at(sizes))

    def error(self, sizes: np.ndarray) -> np.ndarray:
        """Return the error expected at some sizes."""
        return self.fitted.at(sizes)[0]

    def beyond(self, own: float, today: int, total: float) -> dict[str, float]:
        """Return what a score of today is expected to become with more labels, with its 90 % band."""
        error, low, high = (1 - (1 - own) * float(each[0]) for each in self.fitted.ratio(today, [total]))
        return {"labels": round(total), "score": error, "low": high, "high": low}


def _records(sizes: np.ndarray, errors: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[dict[str, float]]:
    return [
        {"labels": round(float(size)), "score": float(1 - error), "low": float(1 - most), "high": float(1 - least)}
        for size, error, least, most in zip(sizes, errors, low, high, strict=True)
    ]


def line_of(job: Job, measured: Measured, *, pretrained: bool = True) -> Line:
    """Return a method's curve with its forecast."""
    draws = draws_of(measured, job.groups, job.seed)
    worst = 1 - float(job.task.correct(np.tile(job.task.majority(), (len(job.y), 1)), job.y).mean())
    fitted = forecast(measured.sizes, measured.errors, draws, worst, float(len(job.y)), blank=not pretrained)
    return Line(measured, draws, fitted)


def refusal(line: Line) -> str:
    """Return why this curve allows no forecast, or an empty text."""
    sizes, errors = line.measured.sizes, line.measured.errors
    if len(sizes) < 3:
        return "fewer than three sizes could be measured"
    noise = np.diff(line.draws, axis=1).std(axis=0)
    steps = np.diff(errors)
    if steps[-1] >= 0:
        return (
            f"from {sizes[-2]:,.0f} to {sizes[-1]:,.0f} labels the error did not fall beyond noise "
            f"({100 * steps[-1]:+.1f} ± {100 * 2 * noise[-1]:.1f} points), so more labels may no longer help"
        )
    if (steps > 2 * noise).any():
        place = int(np.argmax(steps > 2 * noise))
        return (
            f"the error rose from {sizes[place]:,.0f} to {sizes[place + 1]:,.0f} labels, which no family of curves fits"
        )
    return ""


def outlook(job: Job, lines: Mapping[str, Line], today: int, own: float) -> dict[str, Any]:
    """Return the report's part on the learning curve.

    The curve is measured on training rows alone. What more labels are expected to bring is told from the report's own
    score on, so that both begin at the same figure.

    Args:
        lines: `probe` or `scratch`, or both.
        today: labels that there are.
        own: the model's score in the report.
    """
    main = lines.get("probe") or lines["scratch"]
    percent, rows = job.task.primary != "r2", len(job.y)
    few = job.task.width > 1 and rows < FEW_PER_CLASS * job.task.width
    horizon = int(round_number(rows * (NEAR_HORIZON if few else HORIZON)))
    refused = refusal(main)
    if not refused and horizon < 1.2 * today:
        refused = f"the curve was measured on {rows:,} rows only, too few to see beyond today's {today:,} labels"
    sizes = np.geomspace(main.measured.sizes[-1], horizon, STEPS)
    found: dict[str, Any] = {"labels": today, "families": "pow3, mmf", "horizon": None, "refused": refused}
    found["curves"] = [
        {
            "name": name,
            "pretrained": name == "probe",
            "points": line.points(),
            "forecast": [] if refused else line.at(sizes),
        }
        for name, line in lines.items()
    ]
    if refused:
        return {**found, "sentence": f"No forecast: {refused}."}
    added = _added(today, horizon)
    found |= {"horizon": horizon, "at_horizon": main.beyond(own, today, horizon)}
    found["more"] = {"added": added, **main.beyond(own, today, today + added)} if added else None
    said = [f"With {added:,} more labels: {_band(found['more'], percent)}"] if added else []
    said.append(f"with {horizon:,} in all: {_band(found['at_horizon'], percent)}")
    sentence = f"{', '.join(said)} (now {_shown(own, percent)} with {today:,})."
    if len(lines) > 1:
        found |= compare(lines["probe"], lines["scratch"], today, horizon)
        sentence += " " + _pays(found, today, horizon, percent)
    return {**found, "sentence": sentence[:1].upper() + sentence[1:]}


def round_number(value: float) -> float:
    """Return a number with two significant digits.

    >>> round_number(12_345)
    12000.0
    """
    unit = 10.0 ** (np.floor(np.log10(max(value, 1.0))) - 1)
    return float(max(1.0, np.round(value / unit) * unit))


def _added(today: int, horizon: int) -> int:
    """Return the greatest of 1, 2, 5, 10, 20, … more labels that are no more than those of today; 0 where none is."""
    unit = 10 ** int(np.log10(max(today, 1)))
    steps = [int(step * unit / 10) for step in (1, 2, 5, 10, 20, 50)]
    return max((step for step in steps if 1 <= step <= min(today, horizon - today)), default=0)


def compare(probe: Line, scratch: Line, today: int, horizon: int) -> dict[str, Any]:
    """Return from how many labels on a pretrained model no longer pays, and how many labels it saves today.

    Returns:
        `crossing`, labels from which it leads by less than `WORTH`, None where that is beyond the horizon; `ahead`, its
        lead at the horizon; `saved`, how many times today's labels training from scratch needs to be as good as the
        pretrained model is today, None where that is more than the horizon.
    """
    sizes = np.geomspace(min(probe.measured.sizes[0], scratch.measured.sizes[0]), horizon, 200)
    lead = scratch.error(sizes) - probe.error(sizes)
    paying = np.flatnonzero(lead >= WORTH)
    first = 0 if not len(paying) else int(paying[-1]) + 1
    now = float(probe.error(np.array([float(today)]))[0])
    enough = np.flatnonzero(scratch.error(sizes) <= now)
    return {
        "crossing": int(round_number(sizes[first])) if first < len(sizes) else None,
        "ahead": float(lead[-1]),
        "saved": float(sizes[enough[0]] / today) if len(enough) else None,
    }


def _pays(found: Mapping[str, Any], today: int, horizon: int, percent: bool) -> str:
    crossing, saved = found["crossing"], found["saved"]
    if crossing is not None:
        when = "Already from" if crossing <= today else "From"
        return f"{when} about {crossing:,} labels on, the pretrained model no longer pays."
    lead = f"{100 * found['ahead']:+.1f} points" if percent else f"{found['ahead']:+.3f} R²"
    same = f"{saved:.1f} times" if saved else f"more than {horizon / today:.0f} times"
    return (
        f"The pretrained model pays up to {horizon:,} labels ({lead} there); from scratch takes {same} today's labels."
    )


def _shown(score: float, percent: bool) -> str:
    return f"{100 * score:.1f} %" if percent else f"R² {score:.3f}"


def _band(each: Mapping[str, Any], percent: bool) -> str:
    low, high = each["low"], each["high"]
    return f"{100 * low:.1f}–{100 * high:.1f} %" if percent else f"R² {low:.3f}–{high:.3f}"
