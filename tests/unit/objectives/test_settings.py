"""What bundles keep of objectives: written as JSON and read again, they judge and learn alike."""

from __future__ import annotations

import json

import pytest

from headstart import objectives, pipelines
from headstart.core.dataset import Dataset
from headstart.core.objective import Objective

BOXES = [{"label": "dog", "box": [1, 2, 30, 40]}]
TABLES = {
    "detect": ({"image": [b"", b""], "boxes": [BOXES, []]}, {"image": ["image"]}),
    "transcribe": ({"audio": [b"", b""], "transcript": ["Yes.", "no"]}, {"audio": ["audio"]}),
    "generate": ({"instruction": ["Say", "Sing"], "input": ["a", "b"], "output": ["A", "B"], "system": ["x", "x"]}, {}),
    "fill_mask": ({"text": ["one two", "three"]}, {}),
    "embed": ({"question": ["one two", "three"], "answer": ["two", "four"], "score": [1, 0]}, {}),
}


def made(name: str) -> Objective:
    table, inputs = TABLES[name]
    return objectives.registry.get(name).of(Dataset(table, inputs=inputs), [0, 1], {})


@pytest.mark.parametrize("name", objectives.registry.names())
def test_settings_make_the_same_objective_again(name):
    one = made(name)
    again = type(one).load(json.loads(json.dumps(one.settings())))
    assert again.settings() == one.settings() and again.columns == one.columns
    assert (dict(again.usual), dict(again.options)) == (dict(one.usual), dict(one.options))
    assert list(again.beside) == list(one.beside)


@pytest.mark.parametrize("name", objectives.registry.names())
def test_an_objective_is_of_a_pipeline_and_its_options_are_the_pipelines(name):
    pipeline = pipelines.registry.get(name)()
    assert set(pipeline.settle({**made(name).options, **made(name).usual})) == set(pipeline.options)


@pytest.mark.parametrize("name", objectives.registry.names())
def test_rows_without_an_answer_are_of_no_use(name):
    table = {column: [None, None] for column in TABLES[name][0]}
    assert set(made(name).unusable(table)) == {0, 1}
    assert set(made(name).unusable(table, learning=False)) == {0, 1}


def test_what_follows_a_question_is_told():
    assert made("generate").beside == ["input"] and made("generate").usual == {"chat": True}
