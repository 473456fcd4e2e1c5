"""Errors, registry, recipe, data set, progress and bundle."""

import json

import numpy as np
import pytest

from headstart import tasks
from headstart.core import errors
from headstart.core.backbone import Backbone
from headstart.core.bundle import MANIFEST, Bundle
from headstart.core.dataset import Dataset, as_text, is_blank
from headstart.core.errors import BundleError, DataError, UsageError
from headstart.core.progress import Console, Quiet
from headstart.core.recipe import Recipe, seconds


def test_every_error_has_an_exit_code_of_its_own_and_a_status():
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    codes = {kind.exit_code for kind in kinds if kind is not errors.RequestError}
    assert len(codes) == len(kinds) - 1
    assert all(400 <= kind.status < 600 for kind in kinds)


def test_an_error_says_three_things():
    error = DataError("Bad.", allowed="Good is.", hint="Type this.")
    assert str(error) == "Bad. Good is. Type this."


def test_nearest_ignores_case_and_gives_up_on_strangers():
    assert errors.nearest("Departmnt", ["department", "id"]) == "Did you mean 'department'?"
    assert errors.nearest("xyz", ["department"]) == ""


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match="classify") as caught:
        tasks.registry.get("clasify")
    assert caught.value.hint == "Did you mean 'classify'?"


def test_a_recipe_survives_toml(tmp_path):
    recipe = Recipe(target=("a b", 'quo"te'), task={"a b": "tag"}, budget=60.0, seed=3)
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    again = Recipe.from_toml(tmp_path / "r.toml")
    assert (list(again.target), dict(again.task), again.budget) == (list(recipe.target), dict(recipe.task), 60.0)
    (tmp_path / "r.toml").write_text("sed = 1")
    with pytest.raises(UsageError, match="seed"):
        Recipe.from_toml(tmp_path / "r.toml")


@pytest.mark.parametrize("text", ["", "x", "-1", "1d", "inf", "nan", "1 0m"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match="not a time"):
        seconds(text)


@pytest.mark.parametrize("value", [0.2, 1.0, 2])
def test_a_precision_that_cannot_be_promised(value):
    with pytest.raises(UsageError, match="between"):
        Recipe(precision_target=value)


@pytest.mark.parametrize("cell", [None, "", "  ", "\n", float("nan"), np.float64("nan")])
def test_blank_cells(cell):
    assert is_blank(cell)
    assert as_text(cell) == ""


def test_whole_numbers_read_as_such():
    assert [as_text(cell) for cell in (3.0, 3.5, True, "x", 10**20)] == ["3", "3.5", "True", "x", str(10**20)]


def test_a_data_set_knows_its_labelled_rows_and_content():
    data = Dataset({"t": ["a", "b", "c"], "y": ["1", "", None]}, {"text": ["t"]}, ("y",))
    assert data.labelled("y").tolist() == [0]
    assert data.rows([2, 0]).table["t"] == ["c", "a"]
    assert data.fingerprint() != data.rows([0, 1]).fingerprint()
    assert [len(batch["t"]) for batch in data.batches(2)] == [2, 1]


def test_backbone_references():
    parsed = Backbone.parse("local:/a/b@c:d@v2")
    assert (parsed.hub, parsed.name) == ("local", "/a/b")
    with pytest.raises(UsageError, match="hub:name"):
        Backbone.parse("minilm")


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines(capsys):
    with Console().bar("x", 10) as bar:
        bar.advance(10)
    Console().say("hello")
    with Quiet().bar("x", 10) as bar:
        bar.advance(1)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def bundle(tmp_path):
    with Bundle.create(tmp_path / "m") as part:
        (part / "a.json").write_text("{}")
    return Bundle.open(tmp_path / "m")


def test_a_bundle_is_verified_when_it_is_opened(bundle):
    assert bundle.json("a.json") == {}
    (bundle.path / "a.json").write_text("[]")
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(bundle.path)
    (bundle.path / "a.json").unlink()
    with pytest.raises(BundleError, match="incomplete"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}}', '{"format": "1", "files": {}}', "\x00"])
def test_a_manifest_that_is_none(bundle, content):
    (bundle.path / MANIFEST).write_text(content)
    with pytest.raises(BundleError):
        Bundle.open(bundle.path)


def test_a_manifest_that_names_files_outside(bundle):
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["files"]["../secret"] = "0" * 64
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="outside itself"):
        Bundle.open(bundle.path)


def test_copying_a_bundle(bundle, tmp_path):
    assert bundle.copy(tmp_path / "n").json("a.json") == {}
