"""Imports point down only: the contracts of `[tool.importlinter]` in pyproject.toml hold."""

from __future__ import annotations

import os

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_import_contracts(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    status = lint_imports(config_filename=os.fspath(repository / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
