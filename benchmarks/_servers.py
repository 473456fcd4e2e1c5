"""Servers under test: started as processes of their own, with the processor time and memory of their whole tree."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PEERS = Path(os.environ.get("BENCH_PEERS", Path(tempfile.gettempdir()) / "bench_peers"))
"""Where the peers' environments are; see serving.py."""
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def peer(name: str) -> str | None:
    """Return the Python of a peer's environment, or None where it is not made."""
    python = PEERS / name / "bin" / "python"
    return str(python) if python.exists() else None


class Server:
    """A server in a process group of its own; leave the `with` and all of it is gone.

    Args:
        command: starts it; `{port}` in it is replaced.
        path: answers GET or POST with anything but 5xx once it is ready.
        patience: seconds in which it must be ready.
    """

    def __init__(self, command: Sequence[str], path: str = "/", patience: float = 120.0, **environment: str) -> None:
        self.port = free_port()
        self.command = [each.replace("{port}", str(self.port)) for each in command]
        self.path, self.patience, self.environment = path, patience, environment
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the server)

    def __enter__(self) -> Server:
        settings = os.environ | {"HF_HUB_OFFLINE": "1"} | self.environment
        self.process = subprocess.Popen(
            self.command, stdout=self.said, stderr=subprocess.STDOUT, start_new_session=True, env=settings
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        # What it left behind, too: not every server takes its children along.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                break
            time.sleep(0.3)
        self.process.wait(15)
        self.said.close()

    def get(self, path: str, timeout: float = 10.0) -> tuple[int, str]:
        """Return status and text of a page."""
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def measure(self, name: str) -> float:
        """Return one of headstart's measures, labels summed; 0 where there is none."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith((name + " ", name + "{")))

    def output(self) -> str:
        """Return the last of what it has printed."""
        self.said.seek(0)
        return self.said.read()[-2000:]

    def tree(self) -> list[int]:
        """Return its process and all that descend from it."""
        parents: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (fields := _stat(int(folder.name))):
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
        found = [self.process.pid]
        for each in found:
            found += parents.get(each, [])
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time of the whole tree so far, that of ended children included."""
        fields = [_stat(each) for each in self.tree()]
        return sum(sum(map(int, each[11:15])) for each in fields if each) / TICK

    def megabytes(self) -> float:
        """Return the resident memory of the whole tree."""
        fields = [_stat(each) for each in self.tree()]
        return sum(int(each[21]) for each in fields if each) * PAGE / 1e6

    def _wait(self) -> None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if self.get(self.path)[0] < 500:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{' '.join(self.command)} did not start:\n{self.output()}")


def _stat(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name; empty where the process is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def headstart(*arguments: Any) -> list[str]:
    """Return a command of headstart's."""
    return [sys.executable, "-m", "headstart", *map(str, arguments)]


def script(name: str, *arguments: Any, python: str = sys.executable) -> list[str]:
    """Return the command that runs a file of `servers/`."""
    return [python, str(FOLDER / "servers" / f"{name}.py"), *map(str, arguments)]


def noop(*slow: Any) -> Server:
    """Return headstart's server with a model of toys; see servers/noop_headstart.py."""
    return Server(script("noop_headstart", "{port}", *slow), "/health/ready")
