"""headstart never phones home, and neither does what it uses on its behalf.

`import openvino` sends an event to an analytics service and keeps a client id in the user's home, with no question
asked, where the package openvino_telemetry can be imported. headstart hides that package from it.
"""

from __future__ import annotations

import ast
import os
import textwrap
from pathlib import Path

import pytest

# Python runs a module of this name before all else, in subprocesses too. It refuses to look up or reach any host.
GUARD = """
import os, socket

def refuse(what):
    def call(*arguments, **options):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{what} {arguments}\\n")
        raise OSError("no network in this test")
    return call

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse(name))
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse(name))
"""

GRAPH = """
import numpy as np, openvino as ov
from openvino import opset13 as op
given = op.parameter([2, 3], np.float32)
compiled = ov.Core().compile_model(ov.Model([op.relu(given)], [given], "tiny"), "CPU")
assert compiled(np.full((2, 3), -1, np.float32))[0].tolist() == [[0, 0, 0]] * 2
"""

# NNCF keeps still where pytest is imported, so it runs in an interpreter of its own.
QUANTISE = """
import numpy as np
from headstart.core.arrays import Session
from headstart.formats import _compress
from headstart.formats._openvino import op, ov

class Run(Session):
    def __init__(self, compiled):
        self.request = compiled.create_infer_request()
    def run(self, arrays):
        self.request.infer([arrays["x"]])
        return {}

x = op.parameter([-1, 16], np.float32)
graph = ov.Model([op.result(op.matmul(x, op.constant(np.eye(16, dtype=np.float32)), False, True))], [x], "tiny")
given = {"x": np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)}
made = _compress.quantised(graph, ov.Core(), Run, [given])
assert any(each.get_type_name() == "FakeQuantize" for each in made.get_ordered_ops())
"""


@pytest.fixture
def attempts(python, tmp_path):
    """Return a function that runs code with sockets blocked, and gives back what it tried and left in its home."""

    def run(code: str) -> tuple[str, list[str]]:
        (tmp_path / "guard").mkdir()
        (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
        (tmp_path / "home").mkdir()
        log = tmp_path / "attempts"
        # openvino_telemetry keeps still where it believes to be in CI.
        environment = {
            name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")
        }
        environment |= {"HOME": str(tmp_path / "home"), "ATTEMPTS": str(log)}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(tmp_path / "guard"), *filter(None, [environment.get("PYTHONPATH")])]
        )
        done = python("-c", textwrap.dedent(code), env=environment)
        assert done.returncode == 0, done.stderr
        left = [str(path.relative_to(tmp_path / "home")) for path in (tmp_path / "home").rglob("*")]
        return log.read_text() if log.exists() else "", left

    return run


def test_opening_an_engine_reaches_no_host(attempts):
    assert attempts("from headstart import formats; formats.registry.get('openvino')" + GRAPH) == ("", [])


def test_the_guard_is_needed_and_would_be_noticed(attempts):
    tried, left = attempts(GRAPH)
    assert tried
    assert any(path.startswith("intel") for path in left)


def test_quantising_reaches_no_host(attempts):
    pytest.importorskip("nncf")
    assert attempts(QUANTISE) == ("", [])


def test_openvino_is_imported_only_where_it_is_silenced(trees):
    importers = {
        path
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(each.name.partition(".")[0] == "openvino" for each in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "openvino")
    }
    assert {path for path in importers if Path(path).parts[0] != "formats"} == set()
