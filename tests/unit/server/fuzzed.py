"""What the fuzzing tests ask: `python -m tests.unit.server.fuzzed FOLDER` serves toys of every kind on a free port."""

from __future__ import annotations

import sys
from pathlib import Path

from headstart.core.progress import Quiet
from headstart.stages.serve import serve
from headstart.testing.toys import toy_runtime
from tests.unit.server import writers


def main(folder: Path) -> None:
    """Serve until SIGTERM, and print the address."""
    models = {
        "colours": toy_runtime(("subject", "body")),
        "encoder": writers.embedder(folder / "encoder"),
        "talker": writers.talker(folder / "talker"),
        "listener": writers.listener(folder / "listener"),
    }
    serve(models, port=0, progress=Quiet(), ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
