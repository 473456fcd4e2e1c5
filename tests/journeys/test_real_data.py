"""The whole command on real tables, photos and recordings, where ../shared has them."""

from __future__ import annotations

import csv

import pytest

import headstart as hs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_helpdesk_tickets_claim_no_more_than_new_tickets_give(shared, tmp_path):
    """Half of the tickets are rewordings and translations of others: a random split would claim over 70 %."""
    table = shared / "helpdesk_tickets/tickets_1566.csv"
    report = hs.fit(table, target="queue", input=["subject", "body"], method="scratch", out=tmp_path / "m").report
    queue = report["targets"]["queue"]
    assert queue["accuracy_ci"][1] < 0.7
    assert queue["random_split_accuracy"] > queue["grouped_split_accuracy"] + 0.1
    assert "random split would have claimed" in queue["verdict"]
    assert queue["automation_rate"] < 0.2


def test_a_target_blank_by_design(shared, tmp_path):
    with (shared / "twitter_airline/tweets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:2500]
    kept = [{key: row[key] for key in ("text", "airline_sentiment", "negativereason")} for row in rows]
    report = hs.fit(
        kept, target=["airline_sentiment", "negativereason"], input="text", method="scratch", out=tmp_path / "m"
    ).report
    sentiment, reason = report["targets"]["airline_sentiment"], report["targets"]["negativereason"]
    assert reason["rows"] < sentiment["rows"]
    assert sentiment["accuracy"] > sentiment["baselines"]["majority"]["accuracy"] + 0.08
    assert any("'negativereason' is blank in" in warning for warning in report["data"]["warnings"])


def test_a_table_of_credit_applicants_uses_no_pretrained_model(shared, tmp_path):
    table = shared / "german_credit/german_data_credit.csv"
    report = hs.fit(table, target="class-label", out=tmp_path / "m").report
    assert report["backbone"] is None
    assert 0.68 < report["targets"]["class-label"]["accuracy"] < 0.85


def test_ten_questions_of_each_of_77_intents(shared, tmp_path):
    with (shared / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen: dict[str, int] = {}
    few = []
    for row in rows:
        seen[row["category"]] = seen.get(row["category"], 0) + 1
        if seen[row["category"]] <= 10:
            few.append(row)
    report = hs.fit(few, target="category", test=shared / "banking77/test.csv", out=tmp_path / "m").report
    intent = report["targets"]["category"]
    assert intent["accuracy"] > 0.83
    assert intent["gain_over_scratch"] > 0.08


def test_photos_of_garments_with_a_frozen_network(shared, tmp_path):
    pytest.importorskip("torchvision")
    weights = shared.parent / "weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision_layout.pth"
    model = hs.fit(
        shared / "clothing_small/train",
        test=shared / "clothing_small/test",
        target="label",
        backbone="torchvision:mobilenet_v2",
        weights=weights,
        out=tmp_path / "m",
    )
    label = model.report["targets"]["label"]
    assert label["accuracy"] >= 0.80
    assert label["gain_over_scratch"] > 0.05
    photo = next((shared / "clothing_small/test/shoes").iterdir())
    assert hs.open_model(model.path).predict(photo) == model.predict(str(photo))


def test_spoken_digits_by_a_speaker_never_heard(shared, tmp_path):
    pytest.importorskip("soundfile")
    report = hs.fit(
        shared / "fsdd/index.csv",
        target="digit",
        input="file",
        group="speaker",
        task={"digit": "classify"},
        out=tmp_path / "m",
    ).report
    assert report["method"] == "scratch"
    assert report["targets"]["digit"]["accuracy"] > 0.6
    assert any("held out by 'speaker': 4 groups" in warning for warning in report["data"]["warnings"])
