"""Options of several values may be given at once, or one after the other."""

from __future__ import annotations

import argparse

import pytest

from headstart.cli import benchmark, choose, compress, fit


@pytest.mark.parametrize(
    ("command", "name"),
    [(compress, "precision"), (compress, "prune"), (fit, "target"), (choose, "candidates"), (benchmark, "batch")],
)
def test_a_second_value_does_not_take_the_place_of_the_first(command, name):
    parser = argparse.ArgumentParser()
    command.options(parser)
    chosen = parser.parse_args(["bundle", f"--{name}", "a,b", f"--{name}=c"])
    assert getattr(chosen, name) == "a,b,c"
    assert not getattr(parser.parse_args(["bundle"]), name)
