"""What the report says where there is nothing to learn, where rows have twins, and where no pretrained model fits."""

from __future__ import annotations

import random

import headstart as hs
from tests.journeys.conftest import write


def test_shuffled_labels_have_no_signal_and_nothing_is_automated(rows, tmp_path):
    labels = [row["department"] for row in rows]
    random.Random(1).shuffle(labels)
    shuffled = [{"body": row["body"], "label": label} for row, label in zip(rows, labels, strict=True)]
    model = hs.fit(write(tmp_path / "t.csv", shuffled), target="label", out=tmp_path / "m")
    judged = model.report["targets"]["label"]
    assert "no signal" in model.report["verdict"]
    assert judged["automation_rate"] == 0
    assert judged["threshold"] is None
    assert not any(answer["label_automated"] for answer in model.predict([row["body"] for row in rows[:50]]))


def test_twins_do_not_cross_the_split(rows, tmp_path):
    """Rows with random labels, each three times: a random split would learn them by heart."""
    rng = random.Random(2)
    some = []
    for row in rows[:150]:
        label = rng.choice("ab")
        some += [{"body": f"{row['body']} {extra}", "label": label} for extra in ("", "Thanks", "Best regards")]
    rng.shuffle(some)
    report = hs.fit(write(tmp_path / "t.csv", some), target="label", out=tmp_path / "m", method="scratch").report
    judged = report["targets"]["label"]
    assert report["data"]["twins"]["rows"] >= 400
    assert judged["random_split_accuracy"] > 0.9
    assert judged["accuracy"] < 0.7
    assert "random split would have claimed" in judged["verdict"]


def test_a_table_without_text_uses_no_pretrained_model_and_says_why(tmp_path):
    rng = random.Random(3)
    some = []
    for _ in range(400):
        amount, kind, day = rng.uniform(0, 100), rng.choice(["card", "cash", "wire"]), rng.randrange(1, 28)
        fraud = "yes" if (amount > 60) != (kind == "cash") else "no"
        some.append({"amount": f"{amount:.2f}", "kind": kind, "day": f"2026-01-{day:02}", "fraud": fraud})
    model = hs.fit(write(tmp_path / "t.csv", some), target="fraud", out=tmp_path / "m")
    assert model.report["backbone"] is None
    assert any("No pretrained model was used" in warning for warning in model.report["data"]["warnings"])
    assert model.report["targets"]["fraud"]["accuracy"] > 0.9
    assert model.predict({"amount": "90", "kind": "card"})["fraud"] == "yes"


def test_text_numbers_and_categories_together(rows, tmp_path):
    some = [{**row, "amount": str(len(row["body"]))} for row in rows[:200]]
    inputs = ["body", "language", "amount"]
    model = hs.fit(write(tmp_path / "t.csv", some), target="department", input=inputs, out=tmp_path / "m")
    assert set(model.report["data"]["inputs"]) == {"text", "row"}
    assert model.predict({"body": "My parcel is late", "amount": 17, "language": "en"})["department"]


def test_tags_and_numbers_and_labels_in_one_fit(rows, tmp_path):
    some = [
        {
            "body": row["body"],
            "words": str(len(row["body"].split()) * 1.5),
            "tags": "|".join([row["priority"], row["language"]]),
            "department": row["department"],
        }
        for row in rows[:260]
    ]
    targets = ["department", "tags", "words"]
    model = hs.fit(write(tmp_path / "t.csv", some), target=targets, input="body", out=tmp_path / "m")
    assert {name: each["task"] for name, each in model.report["targets"].items()} == {
        "department": "classify",
        "tags": "tag",
        "words": "regress",
    }
    answer = model.predict("Mein Paket ist immer noch nicht angekommen, bitte helfen Sie mir.")
    assert isinstance(answer["tags"], list)
    assert answer["words_low"] <= answer["words"] <= answer["words_high"]
    assert hs.open_model(model.path).predict("Wo ist mein Paket?") == model.predict("Wo ist mein Paket?")


def test_a_target_blank_by_design_is_learnt_from_the_rows_that_have_it(rows, tmp_path):
    some = [
        {
            "body": row["body"],
            "priority": row["priority"],
            "why": row["department"] if row["priority"] == "High" else "",
        }
        for row in rows
    ]
    model = hs.fit(write(tmp_path / "t.csv", some), target=["priority", "why"], input="body", out=tmp_path / "m")
    high = sum(row["priority"] == "High" for row in rows)
    assert any(
        f"'why' is blank in {len(rows) - high:,} rows" in warning for warning in model.report["data"]["warnings"]
    )
    assert model.report["targets"]["why"]["rows"] < model.report["targets"]["priority"]["rows"]
