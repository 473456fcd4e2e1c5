"""What a file imports is installed where the file is used: by the base, or by the extra of the file's own name."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest

DISTRIBUTIONS = {
    "PIL": "pillow",
    "google": "protobuf",
    "grpc": "grpcio",
    "joblib": "scikit-learn",
    "kagglesdk": "kagglehub",
    "opentelemetry": "opentelemetry-sdk",
    "pydantic": "fastapi",
    "python_multipart": "python-multipart",
    "requests": "kagglehub",
    "sklearn": "scikit-learn",
    "starlette": "fastapi",
    "threadpoolctl": "scikit-learn",
}
"""Distributions that bring a module of another name."""

ONLY = {
    "core": {"numpy", "safetensors", "tqdm"},
    "heads": {"numpy"},
    "runtime.py": {"numpy"},
    "cli": set(),
}
"""All that these import from outside when they are imported."""


def _imported(trees: dict[str, ast.Module], late: bool) -> dict[str, set[str]]:
    """Return the third-party modules that each file imports: anywhere in it, or outside its functions only."""
    found = {}
    for path, tree in trees.items():
        names = set()
        for node in ast.walk(tree) if late else tree.body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
        found[path] = names - sys.stdlib_module_names - {"headstart", "__future__"}
    return found


@pytest.fixture(scope="module")
def declared(repository) -> dict[str, set[str]]:
    """Return the distributions that the base (`""`) and each extra ask for."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"": project["dependencies"]} | project["optional-dependencies"]
    return {extra: {re.split(r"[\[<>=~!; ]", each)[0] for each in listed} for extra, listed in asked.items()}


def test_every_import_is_declared(trees, declared):
    wrong = []
    for path, modules in _imported(trees, late=True).items():
        parts = path.removesuffix(".py").split("/")
        # A private file serves the extra of its own name: formats/_timm.py is for `timm`.
        folder = {"server": "serve", "training": "finetune"}.get(parts[0], "")
        extra = folder or parts[-1].lstrip("_")
        allowed = declared[""] | declared.get(extra, set())
        for module in modules:
            if DISTRIBUTIONS.get(module, module.replace("_", "-")) not in allowed:
                wrong.append(f"{path} imports {module}: neither the base nor the extra '{extra}' brings it")
    assert wrong == []


def test_what_is_required_late_names_an_extra_that_brings_it(trees, declared):
    calls = [
        [each.value if isinstance(each, ast.Constant) else None for each in node.args]
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"
    ]
    assert calls
    every = set().union(*declared.values())
    for package, extra in calls:
        # Where the extra is a variable, the caller's file decides which one; a variable package its callers.
        assert extra is None or extra in declared
        if package is not None:
            module = package.partition(".")[0]
            assert DISTRIBUTIONS.get(module, module) in (declared[extra] if extra else every)


@pytest.mark.parametrize("place", ONLY)
def test_the_core_stays_light(trees, place):
    wrong = {
        path: modules - ONLY[place]
        for path, modules in _imported(trees, late=False).items()
        if path.partition("/")[0] == place and modules - ONLY[place]
    }
    assert wrong == {}


def test_every_extra_is_named_after_a_file(trees, declared):
    stems = {path.rpartition("/")[2].removesuffix(".py").lstrip("_") for path in trees}
    assert set(declared) - {"", "all", "test", "parity"} - stems == set()


def test_the_lock_holds_every_declared_package(repository, declared):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    locked = {line.partition("==")[0].casefold().replace("_", "-") for line in pins}
    wanted = {name for names in declared.values() for name in names} - {"headstart"}
    assert wanted - locked == set()
