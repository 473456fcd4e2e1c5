"""The public names are few, documented, and found where the documentation says."""

from __future__ import annotations

import inspect
import re

import pytest

import headstart


def test_the_documented_names_are_the_public_names(repository):
    page = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)
    assert sorted(documented) == sorted(headstart.__all__)
    assert len(set(headstart.__all__)) == len(headstart.__all__)


@pytest.mark.parametrize("name", headstart.__all__)
def test_public_names_can_be_had_and_explain_themselves(name):
    value = getattr(headstart, name)
    assert name in dir(headstart)
    if callable(value):
        assert re.match(r"[A-Z][^\n]+(\n[^\n]+)*?\.(\s|$)", inspect.getdoc(value) or ""), f"{name} has no docstring"


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = headstart.no_such_name


def test_the_readme_uses_public_names(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\bhs\.(\w+)", text))
    assert used
    assert used - set(headstart.__all__) == set()
