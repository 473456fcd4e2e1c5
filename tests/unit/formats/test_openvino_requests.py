"""Jobs side by side give what they give one after the other, in their order, and only where it pays."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.core.progress import Quiet
from headstart.formats import openvino as engine
from headstart.formats._openvino import op, ov
from headstart.formats._openvino_requests import Repeatable, Requests
from headstart.formats.openvino import OpenVINO, TextSession
from headstart.hubs.local import Local
from headstart.testing.networks import write_bert

STREAMS = 2
COMPILED: list[int] = []


def doubled(streams):
    COMPILED.append(streams)
    given = op.parameter([-1], np.float32, "given")
    graph = ov.Model([op.result(op.multiply(given, op.constant(np.float32(2))))], [given], "doubled")
    more = {"NUM_STREAMS": streams} if streams > 1 else {}
    return ov.Core().compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": STREAMS, **more})


@pytest.fixture
def requests():
    COMPILED.clear()
    made = Repeatable(doubled, STREAMS)
    made.seconds = 0.0  # however short the work was, it was longer than that
    return Requests(made)


def jobs(count):
    return [[np.full(number + 1, number, np.float32)] for number in range(count)]


def doubles(requests, count):
    return [each.copy() for each in requests.each(jobs(count))]


def told(count):
    return [np.full(number + 1, 2 * number, np.float32) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
def test_answers_come_in_the_order_of_the_jobs(requests, count):
    for _ in range(3):
        for mine, theirs in zip(doubles(requests, count), told(count), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_it_is_compiled_again_once_and_only_for_much_work(requests):
    for _ in range(3):
        doubles(requests, 2 * STREAMS - 1)
    assert COMPILED == [1]
    for _ in range(3):
        doubles(requests, 2 * STREAMS)
    assert COMPILED == [1, STREAMS]


def test_work_that_took_less_than_compiling_did_is_not_worth_it(requests):
    requests._more.seconds = 1e9
    doubles(requests, 23)
    doubles(requests, 23)
    assert COMPILED == [1]


def test_answers_that_nobody_waits_for_are_in_nobodys_way(requests):
    doubles(requests, 9)
    for stop in (1, 2, 5):
        for number, _ in enumerate(requests.each(jobs(9))):
            if number == stop:
                break
        for mine, theirs in zip(doubles(requests, 9), told(9), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_graph_whose_weights_are_gone_goes_on_as_it_is(requests):
    def gone(_):
        raise HubError("The weights are gone.")

    requests._more.again = gone
    for _ in range(2):
        for mine, theirs in zip(doubles(requests, 9), told(9), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert not requests.splits


def test_one_core_has_nothing_to_do_side_by_side():
    assert not Requests(Repeatable(doubled, 1)).splits


def test_an_encoder_gives_the_same_vectors_side_by_side(tmp_path, monkeypatch):
    network = Local().fetch(Backbone.parse(f"local:{write_bert(tmp_path / 'bert')}"), Quiet())
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 900).astype(np.int32)
    arrays = {"ids": rng.integers(5, 20, lengths.sum()).astype(np.int32), "lengths": lengths}
    alone = OpenVINO().open(network, "f32", 1).run(arrays)["embedding"]
    monkeypatch.setattr(engine, "processor_flags", lambda: frozenset({engine.SIDE_BY_SIDE}))
    monkeypatch.setattr(engine, "_hint", lambda *_: "bf16")
    plain = engine._settings
    monkeypatch.setattr(engine, "_settings", lambda *given: plain(*given) | {"INFERENCE_PRECISION_HINT": "f32"})
    session = OpenVINO().open(network, "f32", STREAMS)
    assert isinstance(session, TextSession)
    assert session.requests.splits
    session.requests._more.seconds = 0.0
    for _ in range(2):
        np.testing.assert_allclose(session.run(arrays)["embedding"], alone, atol=1e-6)
    assert session.requests._beside
