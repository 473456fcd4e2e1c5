"""Demo: the main job on a table that ships with headstart, end to end over HTTP, without a model hub."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from headstart.core.errors import ResourceError
from headstart.core.progress import Progress, Quiet
from headstart.stages.fit import fit
from headstart.stages.report import terminal

QUESTION = "My order #12345 has not arrived yet."
TARGETS = ("department", "priority", "suggested_action")
INPUTS = ("subject", "body")
PATIENCE = 60.0
"""Seconds to wait for the server."""


def demo(
    *, out: Path | str = "models/demo", progress: Progress | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Fit on the sample tickets, print the report, serve the bundle, ask it `QUESTION` over HTTP, and stop the server.

    Returns:
        `bundle`, `question`, `answer` and `report`.
    """
    with as_file(files("headstart.examples") / "tickets.csv") as table:
        say(f"1. Fit on {table.name}, a sample table of support tickets:\n")
        model = fit(table, target=TARGETS, input=INPUTS, out=out, progress=progress or Quiet())
    say(terminal(dict(model.report), 80))
    say(f"\n2. Serve {model.path} and ask over HTTP: {QUESTION}\n")
    answer = _ask_server(model.path)
    say(json.dumps(answer, indent=2, ensure_ascii=False))
    say(_next(model.path))
    return {"bundle": str(model.path), "question": QUESTION, "answer": answer, "report": dict(model.report)}


def _ask_server(bundle: Path) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", str(port), "--quiet"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health/ready", server)
        body = json.dumps({"body": QUESTION}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            answer: dict[str, Any] = json.load(response)
        return answer
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stderr:
            server.stderr.close()


def _wait(url: str, server: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            said = server.stderr.read()[-500:] if server.stderr else ""
            raise ResourceError(f"The server stopped with exit code {server.returncode}: {said.strip()}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ResourceError(f"The server did not become ready within {PATIENCE:.0f} s.")


def _next(bundle: Path) -> str:
    return f"""
3. Now yours. The bundle and its report stay in {bundle}:

   headstart predict {bundle} "I was charged twice for invoice 7731"
   headstart serve {bundle}
   open {bundle / "report.html"}

   headstart fit YOUR.csv --target COLUMN,COLUMN --out models/yours"""
