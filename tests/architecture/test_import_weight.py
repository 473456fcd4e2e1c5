"""Importing headstart, and asking it for help, must be cheap."""

from __future__ import annotations

import resource

import pytest

HEAVY = {
    "fastapi",
    "joblib",
    "onnxruntime",
    "openvino",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "tokenizers",
    "torch",
    "transformers",
    "uvicorn",
}
HELP = "import sys; from headstart.cli.main import main; sys.exit(main(['--help']))"
LIMIT = 0.4
"""Seconds of the processor in which `headstart --help` answers; a clock on the wall would measure other work, too."""


@pytest.mark.parametrize("code", ["import headstart", HELP], ids=["import", "help"])
def test_loads_nothing_heavy(python, code):
    done = python("-X", "importtime", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "headstart" in loaded
    assert loaded & HEAVY == set()


def test_what_serves_loads_no_training_library(python):
    code = """
from headstart import formats, heads, modalities, runtime, tasks
for each in (formats, heads, modalities, tasks):
    each.registry.all()
"""
    done = python("-X", "importtime", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert loaded & {"joblib", "pandas", "pyarrow", "scipy", "sklearn", "torch", "transformers"} == set()


def test_help_answers_at_once(python):
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-c", HELP).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < LIMIT


def test_numpys_threads_do_not_spin_beside_networks(python):
    code = f"import atexit, os; atexit.register(lambda: print('spins', os.environ['OPENBLAS_THREAD_TIMEOUT'])); {HELP}"
    done = python("-X", "importtime", "-c", code)
    assert "spins 4" in done.stdout
    assert "numpy" not in done.stderr  # which would have read it before
