"""Files are data: nothing that headstart reads can make it run code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}


def _name(node: ast.expr) -> str:
    """Return `a.b.c` for such an expression, else an empty text."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _unsafe(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
        for module in modules:
            if module.partition(".")[0] in MODULES:
                yield node.lineno, f"imports {module}"
        if isinstance(node, ast.Call):
            name, options = _name(node.func), {each.arg: each.value for each in node.keywords}
            if name in BUILTINS:
                yield node.lineno, f"calls {name}"
            if name == "torch.load" and not _is(options.get("weights_only"), True):
                yield node.lineno, "calls torch.load without weights_only=True"
            if name in ("np.load", "numpy.load") and not _is(options.get("allow_pickle"), False):
                yield node.lineno, "calls np.load without allow_pickle=False"
            if name.endswith("yaml.load"):
                yield node.lineno, "calls yaml.load"
            if "shell" in options and not _is(options["shell"], False):
                yield node.lineno, "runs a shell"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_read_can_run_code(trees):
    assert [f"{path}:{line} {what}" for path, tree in trees.items() for line, what in _unsafe(tree)] == []


def test_the_check_sees_what_it_forbids():
    code = """
import pickle
from joblib import load
eval("1")
torch.load(file)
torch.load(file, weights_only=False)
np.load(file, allow_pickle=True)
yaml.load(text)
subprocess.run(command, shell=True)
"""
    assert [line for line, _ in sorted(_unsafe(ast.parse(code)))] == list(range(2, 10))
    assert list(_unsafe(ast.parse("re.compile(x); torch.load(file, weights_only=True); self.exec(1)"))) == []
