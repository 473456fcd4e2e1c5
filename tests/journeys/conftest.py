"""A bundle fitted once on a part of the sample tickets, and the command line called in this process."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headstart.cli.main import main
from headstart.stages.fit import fit

TICKETS = Path(__file__).parents[2] / "src/headstart/examples/tickets.csv"
SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[3] / "shared"))


@dataclass(frozen=True)
class Told:
    """What a command said: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


@pytest.fixture
def headstart(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Return a function that runs `headstart ARGUMENTS`."""

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return Told(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def rows() -> list[dict[str, str]]:
    """Return the sample tickets."""
    with TICKETS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> Path:
    """Return a table of 240 sample tickets."""
    return write(tmp_path_factory.mktemp("tables") / "tickets.csv", rows[:240])


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """Return a bundle fitted on `table`; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("models") / "tickets"
    fit(table, target=["department", "priority"], input=["subject", "body"], out=out)
    return out


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data beside the repository; skip where it is missing."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"there is no {SHARED}/data: the real tables are not on this machine")
    return SHARED / "data"
