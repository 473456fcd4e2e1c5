"""Write the generated pages: docs/cli.md, docs/api.md, docs/plugins.md. With --check, only say whether they are right.

Run by `make docs` and `make check`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import sys
import tomllib
from pathlib import Path

import headstart
from headstart.cli.main import COMMANDS, main
from headstart.core.registry import Registry

DOCS = Path(__file__).parent
NOTE = "<!-- Written by `make docs`; do not edit. -->\n"
PYTHON = (3, 11)
"""The Python whose help layout docs/cli.md shows; other versions lay it out a little differently."""


def cli() -> str:
    """Return the help of every command."""
    parts = [f"# Command line\n\n{NOTE}\nEvery command takes `--json`: one JSON document on standard output."]
    for command in ("", *COMMANDS):
        given = [*filter(None, [command]), "--help"]
        parts.append(f"## {' '.join(['headstart', *given[:-1]])}\n\n```text\n{_help(given)}```")
    return "\n\n".join(parts) + "\n"


def _help(arguments: list[str]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(arguments)
    return printed.getvalue()


def api() -> str:
    """Return the signature and docstring of every public name."""
    parts = [f"# Python\n\n{NOTE}\n```python\nimport headstart as hs\n```"]
    for name in sorted(headstart.__all__, key=lambda each: (inspect.isclass(getattr(headstart, each)), each)):
        value = getattr(headstart, name)
        if callable(value):
            parts.append(
                f"## {name}\n\n```python\n{_signature(name, value)}\n```\n\n```text\n{inspect.getdoc(value)}\n```"
            )
        else:
            parts.append(f"## {name}\n\nThe text `{value!r}`.")
        for verb, function in _methods(value):
            parts.append(
                f"### {name}.{verb}\n\n```python\n{_signature(verb, function)}\n```\n\n"
                f"```text\n{inspect.getdoc(function)}\n```"
            )
    return "\n\n".join(parts) + "\n"


def _signature(name: str, value: object) -> str:
    if inspect.isclass(value) and issubclass(value, BaseException):
        return f"class {name}({value.__base__.__name__})"
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except ValueError:
        return f"class {name}"
    text = f"{name}{signature}"
    if len(text) <= 100:
        return text
    ends = f" -> {signature.return_annotation}" if signature.return_annotation is not signature.empty else ""
    lines, starred = [], False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            lines, starred = [*lines, "    *,"], True
        lines.append(f"    {each},")
    return "\n".join([f"{name}(", *lines, f"){ends}"])


def _methods(value: object) -> list[tuple[str, object]]:
    if not inspect.isclass(value) or issubclass(value, BaseException):
        return []
    return [
        (name, member)
        for name, member in vars(value).items()
        if inspect.isfunction(member) and not name.startswith("_")
    ]


def plugins() -> str:
    """Return a table of every implementation of every contract, with the extra that it needs."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    parts = [f"# What can be plugged in\n\n{NOTE}\n[How to add one](../CONTRIBUTING.md)."]
    for registry in registries():
        contract = registry.contract
        rows = [
            f"## {registry.kind}\n\n{_first(contract)} (`{contract.__module__}.{contract.__name__}`)",
            "",
            "| name | what it is | extra |",
            "|---|---|---|",
        ]
        for name, kind in registry.all().items():
            extra = "serve" if registry.kind == "protocols" else name if name in extras else ""
            rows.append(f"| `{name}` | {_first(kind).replace('|', chr(92) + '|')} | {f'`{extra}`' if extra else ''} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def registries() -> list[Registry[object]]:
    """Return the registry of every plugin folder, in the order of the folders' names."""
    found = []
    for package in pkgutil.walk_packages(headstart.__path__, "headstart."):
        if package.ispkg:
            registry = getattr(importlib.import_module(package.name), "registry", None)
            if isinstance(registry, Registry):
                found.append(registry)
    return found


def _first(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


PAGES = {"cli.md": cli, "api.md": api, "plugins.md": plugins}


def build(check: bool) -> int:
    """Write the pages, or return 1 where one of them is not what would be written."""
    wrong = []
    for name, page in PAGES.items():
        if name == "cli.md" and sys.version_info[:2] != PYTHON:
            continue
        text, path = page(), DOCS / name
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            wrong.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if wrong:
        print(f"docs/{', docs/'.join(wrong)}: out of date. Write them again with: make docs", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    sys.exit(build(check="--check" in sys.argv))
