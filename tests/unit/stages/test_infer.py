"""What is inferred of a table, and the sentences that say so."""

from __future__ import annotations

import pytest

from headstart.core.errors import DataError, UsageError
from headstart.stages.infer import infer

N = 60
SENTENCES = [f"my order number {each} has not arrived yet, please help me" for each in range(N)]
TABLE = {
    "id": [f"T-{each}" for each in range(N)],
    "body": SENTENCES,
    "answer": [f"we are sorry about that, it will come on day {each}" for each in range(N)],
    "amount": [str(each * 1.5) for each in range(N)],
    "day": [f"2026-01-{each % 28 + 1:02}" for each in range(N)],
    "channel": ["mail", "web"] * (N // 2),
    "same": ["x"] * N,
    "nothing": [""] * N,
    "department": ["a", "b", "c"] * (N // 3),
}


def test_kinds_and_inputs_of_a_ticket_table():
    found = infer(TABLE, targets=("department",))
    kinds = {name: found.kinds[name] for name in TABLE if name != "department"}
    assert kinds == {
        "id": "id",
        "body": "text",
        "answer": "text",
        "amount": "number",
        "day": "date",
        "channel": "category",
        "same": "constant",
        "nothing": "empty",
    }
    assert {name: list(columns) for name, columns in found.inputs.items()} == {"text": ["body"]}
    told = " ".join(found.notes)
    for name in ("id", "answer", "same", "nothing", "channel"):
        assert name in told


def test_columns_named_by_the_user_are_taken_as_they_are():
    found = infer(TABLE, targets=("department",), inputs=("body", "amount", "channel"))
    assert {name: list(columns) for name, columns in found.inputs.items()} == {
        "text": ["body"],
        "row": ["amount", "channel"],
    }


def test_a_table_without_text():
    table = {name: TABLE[name] for name in ("id", "amount", "day", "channel", "department")}
    found = infer(table, targets=("department",))
    assert list(found.inputs["row"]) == ["amount", "day", "channel"]
    assert "text" not in found.inputs


def test_a_target_is_found_or_asked_for():
    assert list(infer(TABLE, targets=()).targets) == ["department"]
    with pytest.raises(UsageError, match="--target"):
        infer({"body": SENTENCES}, targets=())
    with pytest.raises(DataError, match="Did you mean 'department'"):
        infer(TABLE, targets=("departement",))
    with pytest.raises(DataError, match="Did you mean 'body'"):
        infer(TABLE, targets=("department",), inputs=("bdy",))
    with pytest.raises(UsageError, match="department"):
        infer(TABLE, targets=("department",), inputs=("department",))
