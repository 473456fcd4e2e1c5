"""What was right for a prediction: from a request's JSON to the ledger's labels."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import orjson

from headstart.core.dataset import as_text
from headstart.core.errors import RequestError, listed, nearest
from headstart.core.ledger import Label, Ledger, Prediction
from headstart.server.models.served import Served
from headstart.server.requests.rows import kind, short

SOURCES = ("outcome", "human_review", "complaint", "audit_uniform", "audit_targeted")
FIELDS = ("request_id", "prediction_id", "row", "target", "label", "source", "annotator", "minutes", "observed")
LONGEST = 10_000
"""Characters of a label."""
LONGEST_ID = 160
MOST_TAGS = 1_000


@final
@dataclass(frozen=True, slots=True)
class Given:
    """One label as a client sent it, checked as far as it can be without the ledger.

    Args:
        label: a text, a number, or a list of texts.
        request_id: the request that was answered; or
        prediction_id: the prediction's own id.
        row: the row of the request, from 0.
        target: the column; may be empty where only one is predicted.
        source: how it became known, of `SOURCES`.
        annotator: who said so.
        minutes: how long that took.
        observed: when it became known, in seconds since 1970.
        where: how an error calls it.
    """

    label: Any
    request_id: str = ""
    prediction_id: str = ""
    row: int = 0
    target: str = ""
    source: str = "outcome"
    annotator: str | None = None
    minutes: float | None = None
    observed: float | None = None
    where: str = "The feedback"


def given(value: Any, where: str = "The feedback") -> Given:
    """Return one label of a request.

    Raises:
        RequestError: a field is missing, unknown or of the wrong kind.
    """
    if not isinstance(value, dict):
        raise RequestError(f"{where} is {kind(value)}.", allowed=f"An object with the fields {listed(FIELDS)}.")
    for name in value:
        if name not in FIELDS:
            raise RequestError(
                f"{where} has a field '{short(name)}'.",
                allowed=f"Fields: {listed(FIELDS)}.",
                hint=nearest(short(name), FIELDS),
            )
    if ("request_id" in value) == ("prediction_id" in value):
        raise RequestError(
            f"{where} must name one prediction.",
            allowed="Either 'request_id' (the answer's header X-Request-ID) with 'row', or 'prediction_id'.",
        )
    if value.get("label") is None:
        raise RequestError(f"{where} has no 'label'.", allowed="What was right: a text, a number, or a list of texts.")
    source = value.get("source", "outcome")
    if source not in SOURCES:
        raise RequestError(f"{where}: the source is '{short(str(source))}'.", allowed=f"Sources: {listed(SOURCES)}.")
    row = value.get("row", 0)
    if type(row) is not int or not 0 <= row < 2**31:
        raise RequestError(f"{where}: 'row' is {kind(row)}.", allowed="The row's number within its request, from 0.")
    return Given(
        value["label"],
        _text(value, "request_id", where),
        _text(value, "prediction_id", where),
        row,
        _text(value, "target", where),
        source,
        _text(value, "annotator", where) or None,
        _number(value, "minutes", where),
        _number(value, "observed", where),
        where,
    )


def _text(value: Mapping[str, Any], name: str, where: str) -> str:
    found = value.get(name, "")
    if not isinstance(found, str) or len(found) > LONGEST_ID:
        raise RequestError(
            f"{where}: '{name}' is {kind(found)}.", allowed=f"A text of at most {LONGEST_ID} characters."
        )
    return found


def _number(value: Mapping[str, Any], name: str, where: str) -> float | None:
    found = value.get(name)
    if found is not None and (isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 1e12):
        raise RequestError(f"{where}: '{name}' is {kind(found)}.", allowed="A number from 0 on.")
    return found


@final
class Desk:
    """Finds the predictions that labels are for, and appends the labels; used in the ledger's thread.

    Args:
        ledger: where predictions and labels are.
        served: the versions that are served, by name and version, which know what a label may look like.
        models: the models that the client may speak of; all where there are none.
    """

    def __init__(self, ledger: Ledger, served: Mapping[tuple[str, str], Served], models: Sequence[str] = ()) -> None:
        self._ledger, self._served, self._models = ledger, served, models
        self._latest: dict[tuple[str, str, str | None], Label] = {}

    def take(self, items: Sequence[Given]) -> list[dict[str, Any]]:
        """Return what becomes of each: `kept`, `corrected`, `repeated` or `unknown`; nothing is kept if one is wrong.

        Raises:
            RequestError: a label cannot be one of its target.
            ResourceError: the ledger cannot be used now.
        """
        labels: list[Label] = []
        told = [self._one(each, labels) for each in items]
        if labels:
            self._ledger.append(labels)
        return told

    def _one(self, item: Given, labels: list[Label]) -> dict[str, Any]:
        prediction = self._prediction(item)
        if prediction is None:
            return {"status": "unknown"}
        text, new = self._checked(item, prediction)
        place = (prediction.id, item.source, item.annotator)
        before = self._latest.get(place) or self._before(*place)
        if before is not None and before.label == text:
            return {"status": "repeated", "prediction_id": prediction.id}
        parts = (prediction.id, text, item.source, item.annotator or "", before.id if before else "")
        label = Label(
            hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32],
            time.time(),
            prediction.id,
            text,
            item.source,
            item.observed,
            item.annotator,
            item.minutes,
            before.id if before else None,
        )
        self._latest[place] = label
        labels.append(label)
        told = {"status": "corrected" if before else "kept", "prediction_id": prediction.id}
        return told | ({"new_label": True} if new else {})

    def _prediction(self, item: Given) -> Prediction | None:
        where: dict[str, Any] = {"id": item.prediction_id}
        if item.request_id:
            where = {"request_id": item.request_id, "row": item.row}
        found = [
            each
            for each in self._ledger.read(Prediction, where=where, newest=True, limit=1000)
            if (each.variant != "shadow" or item.prediction_id) and (not self._models or each.model in self._models)
        ]
        targets = list(dict.fromkeys(each.target for each in found))
        if not found:
            return None
        if not item.target and len(targets) > 1:
            raise RequestError(f"{item.where} does not say which target it is for.", allowed=listed(sorted(targets)))
        if item.target and item.target not in targets:
            raise RequestError(
                f"{item.where}: there is no target '{short(item.target)}'.",
                allowed=f"Targets: {listed(sorted(targets))}.",
                hint=nearest(short(item.target), targets),
            )
        return next(each for each in found if each.target == (item.target or targets[0]))

    def _before(self, prediction: str, source: str, annotator: str | None) -> Label | None:
        every = self._ledger.read(Label, where={"prediction_id": prediction}, newest=True)
        return next((each for each in every if (each.source, each.annotator) == (source, annotator)), None)

    def _checked(self, item: Given, prediction: Prediction) -> tuple[str, bool]:
        """Return a label as it is kept, and whether its model does not know it."""
        served = self._served.get((prediction.model, prediction.model_version))
        schema = served.answer_schema().get(prediction.target, {}) if served is not None else {}
        if schema.get("type") == "number":
            return _as_number(item), False
        if schema.get("type") == "array" or isinstance(item.label, list):
            tags = _as_tags(item)
            return orjson.dumps(tags).decode(), not set(tags) <= set(schema.get("items", {}).get("enum", tags))
        if isinstance(item.label, dict):
            raise RequestError(f"{item.where}: 'label' is an object.", allowed="A text, a number, or a list of texts.")
        text = as_text(item.label)
        if not text.strip() or len(text) > LONGEST:
            raise RequestError(
                f"{item.where}: 'label' is {'longer than may be' if text.strip() else 'blank'}.",
                allowed=f"A text of at most {LONGEST:,} characters.",
            )
        return text, text not in schema.get("enum", (text,))


def _as_number(item: Given) -> str:
    try:
        number = float(item.label)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(item.label, bool) or not abs(number) < float("inf"):
        raise RequestError(
            f"{item.where}: 'label' is {kind(item.label)}, and the target is a number.", allowed="A finite number."
        )
    return repr(number)


def _as_tags(item: Given) -> list[str]:
    tags = item.label if isinstance(item.label, list) else [item.label]
    if len(tags) > MOST_TAGS or not all(isinstance(each, str) and len(each) <= LONGEST for each in tags):
        raise RequestError(f"{item.where}: 'label' is not a list of tags.", allowed=f"At most {MOST_TAGS:,} texts.")
    return sorted(set(tags))
