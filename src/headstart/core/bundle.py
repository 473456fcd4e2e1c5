"""The Bundle noun: a fitted model as a folder of plain files, hashed, written in one step."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core import VERSION
from headstart.core.errors import BundleError
from headstart.core.files import atomic_folder, read_json, recover_folder, sha256

FORMAT, OLDEST = 3, 2
"""The newest version of the folder's layout that is read, and the oldest. 1 had one backbone, in backbone.json."""
HEADS, NETWORK = 2, 3
"""The layout of models that are heads for targets, and of what came later: see `Bundle`."""

MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A fitted model on disk.

    ```
    bundle.json         format, version, and the SHA-256 of every other file
    recipe.toml         how it was fitted
    inputs.json         for each modality, its spec
    targets.json        for each target, its task's spec and its heads' settings
    heads.safetensors   the fitted heads' arrays, named `target/head/array`
    backbones.json      each modality's pretrained network: reference, checksum, architecture; absent where none is used
    backbone/MODALITY/  its files, where the bundle is portable
    report.json, report.html, README.md
    ```

    A network that was tuned to answer by itself has no inputs, targets and heads, but

    ```
    pipeline.json       what it does (`use`), and the settings of its objective
    ```

    Where a network differs from its hub's by an adapter only, and is not portable, there is

    ```
    adapter/MODALITY/   the adapter, as peft writes it: it is merged into the hub's weights when the bundle is opened
    ```
    """

    path: Path
    manifest: Mapping[str, Any]

    @staticmethod
    @contextmanager
    def create(path: Path | str, layout: int = HEADS) -> Iterator[Path]:
        """Yield a temporary folder to fill; on success its files are hashed and it takes the place of `path`.

        Raises:
            BundleError: something that is not a bundle already stands at `path`.
            ResourceError: the disk is full; what stood there is untouched.
        """
        path = Path(path)
        Bundle.check_place(path)
        with atomic_folder(path) as part:
            yield part
            manifest = {
                "format": layout,
                "headstart": VERSION,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {
                    str(each.relative_to(part)): sha256(each) for each in sorted(part.rglob("*")) if each.is_file()
                },
            }
            (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def check_place(path: Path | str) -> None:
        """Raise BundleError if a bundle must not be written at `path`, because other things are there."""
        path = Path(path)
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).exists()):
            raise BundleError(
                f"'{path}' exists and is not a bundle; it will not be overwritten.",
                hint="Give another place with --out.",
            )

    @staticmethod
    def open(path: Path | str) -> Bundle:
        """Open a bundle and verify every file's hash.

        Raises:
            BundleError: there is none, it is damaged, or it is of a newer format.
        """
        path = Path(path)
        recover_folder(Path(os.path.abspath(path)))
        if not (path / MANIFEST).is_file():
            raise BundleError(
                f"There is no bundle at '{path}': it has no {MANIFEST}.",
                hint="Make one with: headstart fit TABLE --target COLUMN --out PATH",
            )
        manifest = read_json(path / MANIFEST, BundleError)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise BundleError(f"'{path / MANIFEST}' is not a bundle's manifest.")
        if not isinstance(manifest.get("format"), int) or manifest["format"] > FORMAT:
            raise BundleError(
                f"The bundle '{path}' is of format {manifest.get('format')}, written by headstart "
                f"{manifest.get('headstart')}; this headstart {VERSION} reads formats up to {FORMAT}.",
                hint="Install a newer headstart: pip install -U headstart",
            )
        if manifest["format"] < OLDEST:
            raise BundleError(
                f"The bundle '{path}' is of format {manifest['format']}, which headstart {VERSION} no longer reads.",
                allowed=f"Formats {OLDEST} to {FORMAT}.",
                hint="Fit it again with the same recipe: headstart fit TABLE --recipe BUNDLE/recipe.toml",
            )
        for name, expected in manifest["files"].items():
            file = path / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise BundleError(f"The bundle '{path}' names a file outside itself: '{name}'.")
            if not file.is_file():
                raise BundleError(f"The bundle '{path}' is incomplete: '{name}' is missing.", hint=_AGAIN)
            if sha256(file) != expected:
                raise BundleError(f"The bundle '{path}' is damaged: '{name}' does not match its hash.", hint=_AGAIN)
        return Bundle(path, manifest)

    def json(self, name: str) -> Any:
        """Return one of its JSON files."""
        return read_json(self.path / name, BundleError)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of one of its safetensors files."""
        from safetensors.numpy import load_file

        return load_file(self.path / name)

    def size(self) -> int:
        """Return the bytes of all its files."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def copy(self, to: Path | str) -> Bundle:
        """Copy it elsewhere, whole or not at all."""
        with atomic_folder(to) as part:
            shutil.copytree(self.path, part, dirs_exist_ok=True)
        return Bundle.open(to)


_AGAIN = "Copy it again from where it came from, or fit it again."
