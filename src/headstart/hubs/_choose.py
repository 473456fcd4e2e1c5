"""Which of a repository's files are fetched: those that the model is made of, in one format."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

SMALL = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Suffixes of configurations and vocabularies."""
LOGS = ("trainer_state.json", "*_results.json", "*.index.json", "training_args*", "optimizer*", "onnx*", "*.log.json")
"""Small files that no one needs."""
WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)
"""Where weights are, best first; the first whose first name is there is taken."""
OTHERS = (
    ("*.onnx", "*.onnx_data", "*.onnx.data"),
    ("saved_model.pb", "variables/*", "assets/*", "keras_metadata.pb", "fingerprint.pb"),
    ("*.keras",),
    ("*.tflite",),
    ("*.h5",),
    ("*.safetensors",),
    ("*.pth", "*.pt", "*.ckpt"),
)
"""The formats of models that transformers does not read, best first."""


def chosen(names: Iterable[str], parts: Mapping[str, Any] | None = None, code: bool = False) -> list[str]:
    """Return the files to fetch out of all that a repository has.

    Args:
        names: their paths within the repository.
        parts: the `model_index.json` of a diffusers repository.
        code: whether Python files are fetched too.
    """
    every = sorted(names)
    if parts is not None:
        return _of_pipeline(every, parts)
    top = [name for name in every if "/" not in name]
    small = [name for name in top if name.endswith(SMALL) and not _any(name, LOGS)]
    small += [name for name in every if _any(name, ("[0-9]_*/config.json", "additional_chat_templates/*.jinja"))]
    small += [name for name in top if name == "README.md" or (code and name.endswith(".py"))]
    for first, *rest in WEIGHTS:
        if first in top:
            return sorted({*small, first, *(name for name in top if _any(name, rest))})
    for patterns in OTHERS:
        found = [name for name in every if _any(name, patterns) or _any(name, [f"*/{each}" for each in patterns])]
        if found:
            return sorted({*small, *found})
    return sorted(set(small))


def _of_pipeline(names: list[str], parts: Mapping[str, Any]) -> list[str]:
    folders = {name for name, value in parts.items() if isinstance(value, list) and value and value[0]}
    found = [name for name in names if name in ("model_index.json", "README.md")]
    for folder in sorted(folders):
        inside = [name for name in names if name.startswith(f"{folder}/")]
        # A variant (fp16, non_ema) has a second dot; it is the same weights once more.
        whole = [n for n in inside if n.endswith(".safetensors") and PurePosixPath(n).name.count(".") == 1]
        found += whole + [name for name in inside if name.endswith(SMALL) and ".fp16." not in name]
    return sorted(set(found))


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
