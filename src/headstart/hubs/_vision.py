"""What the hubs of vision models share: files that the user gives, class names beside them, and what is random."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError, UsageError
from headstart.core.files import sha256

RANDOM = "random"
"""The revision that asks for an architecture with random weights: to train it from scratch, or to test."""
SCALE = 1 / 255


def given(backbone: Backbone) -> Path | None:
    """Return the file of `--weights`, whole path, or None where none was given.

    Raises:
        HubError: there is no such file.
    """
    if not backbone.weights:
        return None
    path = Path(backbone.weights).expanduser()
    if not path.is_file():
        raise HubError(f"There is no file '{path}'.", hint="Give a file of weights with --weights.")
    return path.resolve()


def verified(backbone: Backbone, weights: Path) -> str:
    """Return the SHA-256 of a file of weights.

    Raises:
        HubError: the backbone is pinned to another.
    """
    found = sha256(weights)
    if backbone.checksum and backbone.checksum != found:
        raise HubError(
            f"The weights in '{weights}' are not those that are asked for: their SHA-256 is {found[:12]}…, "
            f"not {backbone.checksum[:12]}….",
            hint="Put the earlier file back, or fit again.",
        )
    return found


def class_names(weights: Path, known: Sequence[str] = ()) -> list[str]:
    """Return the class names that stand beside a file, one a line, in `NAME.txt`, `labels.txt` or `…labels….txt`.

    Args:
        known: the names of the architecture's usual classes, returned where there is no file. TensorFlow's lists of
            them begin with a class for the background, which is left out.

    Raises:
        HubError: the file cannot be read as text.
    """
    folder = weights if weights.is_dir() else weights.parent
    beside = [folder / f"{weights.stem}.txt", folder / "labels.txt", folder / "classes.txt"]
    # Sorted, so that the same folder always gives the same names.
    found = next((each for each in [*beside, *sorted(folder.glob("*labels*.txt"))] if each.is_file()), None)
    if found is None:
        return list(known)
    try:
        lines = found.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HubError(f"The class names in '{found}' cannot be read as UTF-8 text.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    names = [line.strip() for line in lines]
    return names[1:] if len(names) == len(known) + 1 and names[0].casefold() == "background" else names


def torch_home() -> Path:
    """Return PyTorch's own cache folder, as `torch.hub` finds it."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(os.environ.get("TORCH_HOME") or base).expanduser()


def keras_home() -> Path:
    """Return Keras's own folder, as Keras finds it."""
    return Path(os.environ.get("KERAS_HOME") or Path("~") / ".keras").expanduser()


def no_revision(backbone: Backbone, why: str) -> None:
    """Refuse a revision where there can be none.

    Raises:
        UsageError: one is given.
    """
    if backbone.revision:
        raise UsageError(f"'{backbone.reference}' names a revision, '{backbone.revision}'. {why}")


def plain(value: Any) -> Any:
    """Return a value as plain JSON data: tuples as lists."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    return value
