"""Files and functions stay short enough to be read at one sitting."""

from __future__ import annotations

import ast

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60


def test_no_file_is_long(repository):
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (repository / "src").rglob("*.py")
    }
    assert {path: lines for path, lines in lengths.items() if lines > LINES_OF_A_FILE} == {}


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its docstring, which may take what it needs."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_no_function_is_long(trees):
    lengths = {
        f"{path}:{node.lineno} {node.name}": _lines(node)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {place: lines for place, lines in lengths.items() if lines > LINES_OF_A_FUNCTION} == {}
