"""Engines are chosen by measuring, and only among those that give the same vectors."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import final

import numpy as np
import pytest

from headstart.core.arrays import Session
from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.core.format import Format
from headstart.core.progress import Quiet
from headstart.hubs._folder import open_folder
from headstart.modalities.text import Text
from headstart.stages import engine, networks
from headstart.stages.engine import Choice, Engine
from headstart.testing.networks import write_bert

TEXTS = ["where is my parcel", "password reset please", "refund", "thanks a"]


@final
class Fake(Format):
    """An engine that takes its time, and may be wrong about some rows."""

    tolerance = 1e-4

    def __init__(self, seconds: float, wrong: float = 0.0) -> None:
        self.seconds, self.wrong, self.ran = seconds, wrong, 0

    def precisions(self):
        return ["f32"]

    def supports(self, network):
        return ""

    def open(self, network, precision, threads):
        return FakeSession(self)


@final
class FakeSession(Session):
    def __init__(self, made: Fake) -> None:
        self.made = made

    def run(self, arrays):
        self.made.ran += 1
        time.sleep(self.made.seconds)
        rows = len(arrays["lengths"])
        vectors = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
        vectors[1] += self.made.wrong * np.arange(8)
        return {"embedding": vectors}


@pytest.fixture
def network(tmp_path):
    folder = write_bert(tmp_path / "bert")
    return open_folder(folder, Backbone("local", str(folder)), "")


@pytest.fixture
def rows(network):
    return engine.sample(Text(["body"]).bind(network), {"body": TEXTS})


def test_the_fastest_is_taken_and_all_rates_are_told(network, rows):
    able = [Engine("slow", "f32", Fake(0.05)), Engine("fast", "f32", Fake(0.005))]
    choice = engine.measured(network, able, {"other": "not installed"}, *rows)
    assert (choice.name, choice.precision) == ("fast", "f32")
    assert choice.why.startswith("fast f32: ") and "slow f32: " in choice.why and choice.why.endswith("not installed")
    assert choice.rates["fast f32"] > choice.rates["slow f32"]


def test_what_is_about_as_fast_does_not_take_the_place_of_the_usual_one(network, rows):
    able = [Engine("usual", "f32", Fake(0.0203)), Engine("other", "f32", Fake(0.02))]
    assert engine.measured(network, able, {}, *rows).name == "usual"


def test_engines_that_differ_are_an_error_that_shows_the_worst_row(network, rows):
    encoded, shown = rows
    able = [Engine("right", "f32", Fake(0.001)), Engine("wrong", "f32", Fake(0.001, wrong=1.0))]
    with pytest.raises(HubError) as told:
        engine.measured(network, able, {}, encoded, shown)
    assert f"for '{shown[1]}'" in str(told.value) and "wrong f32 and right f32" in str(told.value)


def test_an_inexact_precision_is_left_out_and_told(network, rows):
    able = [Engine("right", "bf16", Fake(0.001, wrong=1.0)), Engine("right", "f32", Fake(0.02))]
    choice = engine.measured(network, able, {}, *rows)
    assert choice.precision == "f32"
    assert "too inexact (cosine" in choice.left_out["right bf16"]


def test_on_a_gpu_the_run_that_is_recorded_does_not_count(network, rows, monkeypatch):
    able = [Engine("one", "f32", Fake(0.001)), Engine("two", "f32", Fake(0.001))]
    engine.measured(network, able, {}, *rows)
    monkeypatch.setattr(engine, "gpu", lambda: "a GPU")
    warmed = [Engine("one", "f32", Fake(0.001)), Engine("two", "f32", Fake(0.001))]
    engine.measured(network, warmed, {}, *rows)
    assert [each.format.ran for each in warmed] == [each.format.ran + 1 for each in able]


def test_measuring_ends_with_its_budget(network, rows):
    able = [Engine(f"e{number}", "f32", Fake(1.6)) for number in range(6)]
    choice = engine.measured(network, able, {}, *rows)
    assert list(choice.left_out.values()).count("not measured, for lack of time") >= 3
    assert sum(each.format.ran for each in able) <= 6


@pytest.mark.parametrize("wrong", [np.nan, -1.0])
def test_vectors_that_are_no_numbers_or_point_away_differ(wrong):
    one = np.ones((3, 4), np.float32)
    other = one.copy()
    other[2] *= wrong
    assert "'c'" in engine.difference(one, other, 0.1, ["a", "b", "c"])
    assert engine.difference(one, 2 * one, 1e-6, ["a", "b", "c"]) == ""
    assert engine.difference(np.zeros((1, 4)), np.zeros((1, 4)), 1e-6, ["a"]) == ""
    assert "[3, 4] in place of [3, 2]" in engine.difference(one, one[:, :2], 0.1, ["a", "b", "c"])


def test_where_one_engine_alone_runs_it_nothing_is_measured(network):
    opened = networks.start(network, "openvino")
    able, _ = engine.engines(network)
    found = engine.settled(opened, Text(["body"]).bind(network), {"body": TEXTS}, Quiet())
    assert found.precision in [each.precision for each in able]
    if len(able) == 1:
        assert found is opened


def test_what_would_be_taken_unasked_is_measured_however_long_the_first_one_took(network, rows):
    slow = Fake(engine.BUDGET + 0.1)
    slow.heavy = "json"  # opened first, for the others are compared to it
    choice = engine.measured(network, [Engine("usual", "f32", Fake(0.01)), Engine("slow", "f32", slow)], {}, *rows)
    assert choice.name == "usual" and set(choice.rates) == {"usual f32", "slow f32"}


def test_a_choice_in_a_hurry_is_made_anew_the_next_time(network, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    opened = networks.start(network, "openvino", precision="f32")
    able = [Engine(name, "f32", Fake(0.001)) for name in ("openvino", "other")]
    monkeypatch.setattr(engine, "engines", lambda network: (able, {}))
    text = Text(["body"]).bind(network)
    place = engine._place(network, engine.sample(text, {"body": TEXTS})[0], able)
    for seconds, kept in ((0.0, False), (60.0, True)):
        monkeypatch.setattr(engine, "BUDGET", seconds)
        found = engine.settled(opened, text, {"body": TEXTS}, Quiet())
        assert (engine.HURRIED in found.why, place.is_file()) == (not kept, kept)


def test_a_choice_is_kept_for_the_same_network_and_read_again(network, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    able = [Engine("a", "f32", Fake(0)), Engine("b", "f32", Fake(0))]
    place = engine._place(network, rows[0], able)
    other = replace(network, backbone=replace(network.backbone, checksum="1" * 64))
    assert place != engine._place(other, rows[0], able)
    engine.write_json(place, vars(Choice("b", "f32", {"b f32": 10.0})))
    assert engine._known(place, able) == Choice("b", "f32", {"b f32": 10.0})
    assert engine._known(place, able[:1]) is None
    place.write_text("{", encoding="utf-8")
    assert engine._known(place, able) is None


def test_a_bundle_of_another_machine_is_opened_as_this_one_runs_it_best(network):
    best = networks.start(network)
    spec = {"format": "openvino", "precision": "f32", "machine": "another"}
    assert networks._restart(network, spec).precision == best.precision
    spec = {"format": "no_such_engine", "precision": "f32", "machine": "another"}
    assert networks._restart(network, spec).format == best.format
    same = {"format": "openvino", "precision": "f32", "machine": networks.machine()}
    assert networks._restart(network, same).precision == "f32"
