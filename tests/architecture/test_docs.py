"""The documentation says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

LINES_OF_A_GUIDE = 8
GUIDES = ("hub", "pipeline", "task", "modality", "method", "head", "format", "source", "ledger", "protocol")


def _blocks(text: str) -> str:
    """Return what stands in fenced code blocks."""
    return "\n".join(re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL))


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().casefold()).replace(" ", "-")


@pytest.fixture(scope="module")
def pages(repository) -> dict[Path, str]:
    """Return every Markdown page of the project by its path."""
    found = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    return {path: path.read_text(encoding="utf-8") for path in found}


def test_every_relative_link_leads_somewhere(pages):
    broken = []
    for path, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if re.match(r"[a-z]+:", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif anchor and target.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
                broken += [] if anchor in map(_anchor, headings) else [f"{path.name}: {link}"]
    assert broken == []


def test_every_command_in_the_readme_exists(repository, python):
    text = _blocks((repository / "README.md").read_text(encoding="utf-8"))
    lines = re.findall(r"^(?:\.venv/bin/)?headstart (.+)$", text, flags=re.MULTILINE)
    used: dict[str, set[str]] = {}
    for line in lines:
        command, *rest = shlex.split(line, comments=True)
        used.setdefault(command, set()).update(
            each.partition("=")[0] for each in rest if each.startswith("-") and each != "-"
        )
    assert {"fit", "evaluate", "predict", "serve"} <= set(used)
    for command, options in used.items():
        code = f"import sys; from headstart.cli.main import main; sys.exit(main([{command!r}, '--help']))"
        done = python("-c", code)
        assert done.returncode == 0, done.stderr
        assert options - set(re.findall(r"(?<!\w)-{1,2}[\w-]+", done.stdout)) == set(), command


def test_every_make_target_in_the_docs_exists(pages, repository):
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for text in pages.values() for name in re.findall(r"`make ([a-z-]+)", text)}
    assert named
    assert named - targets == set()


def test_ci_runs_what_the_readme_says(repository):
    readme = _blocks((repository / "README.md").read_text(encoding="utf-8"))
    script = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make test" in script
    assert {line for line in script if line.startswith("make ")} <= {
        line.partition("#")[0].strip() for line in readme.splitlines()
    }


@pytest.mark.parametrize("kind", GUIDES)
def test_contributing_tells_how_to_add_one(repository, kind):
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^### To add a {kind}$\n(.*?)(?=^#|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no section 'To add a {kind}'"
    lines = [line for line in found[1].splitlines() if line.strip()]
    assert 1 <= len(lines) <= LINES_OF_A_GUIDE
    assert all(len(line) <= 120 for line in lines)


def test_generated_pages_are_up_to_date(repository, python):
    done = python(str(repository / "docs" / "build.py"), "--check")
    assert done.returncode == 0, done.stderr
