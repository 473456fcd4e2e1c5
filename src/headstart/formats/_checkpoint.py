"""Tensors out of checkpoint files, without running what a file may hold besides them.

Old checkpoints are pickles. They are read with `weights_only=True`, which knows tensors, containers and numbers. Where
one also names classes (the settings of a training run, a whole network), each such name stands for `Husk` while the
file is read: it keeps what it is given and runs nothing. Names of functions that do things are refused.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from headstart.core.errors import HubError, listed
from headstart.core.registry import require

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".th", ".tar", ".pkl")
"""What checkpoint files are called."""
PARTS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "params_ema",
    "params",
    "g_ema",
    "ema_state_dict",
    "model_ema",
    "model",
    "module",
    "net",
    "network",
    "generator",
    "weights",
    "tensors",
)
"""Names under which a training run's file keeps its network, the first that is there is taken."""
WRAPPERS = ("module.", "_orig_mod.")
"""What data parallel and compiled networks put before every name."""
_ACTIVE = (
    "bdb builtins code codeop commands ctypes functools http importlib inspect io multiprocessing nt operator os pdb "
    "pickle pip pkgutil platform posix pty requests runpy shutil signal site socket subprocess sys tempfile threading "
    "timeit types urllib webbrowser zipimport"
)
ACTIVE = frozenset(_ACTIVE.split())
"""Modules that no checkpoint has business with: a file that names them is not opened at all."""
NAMED = re.compile(r"GLOBAL ([\w.<>]+)")
MOST_NAMES = 400


@final
class Husk:
    """What stands in for any class that a checkpoint names: it keeps its state, and runs nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Husk:
        """Ignore what it would be made from."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        """Keep the state as it is."""
        self.state = state


def tensors(path: Path, part: str = "") -> dict[str, Any]:
    """Return a checkpoint's tensors by name.

    Args:
        path: a safetensors file, or one that `torch.save` wrote.
        part: the name under which the file keeps the network wanted, such as `g_ema`; empty looks for the usual ones.

    Raises:
        HubError: it is damaged, holds no tensors, or names code.
        MissingExtra: PyTorch is not installed.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path)
    found = _unwrapped(_read(path), part)
    if not found:
        raise HubError(
            f"'{path}' holds no network's tensors" + (f" under '{part}'." if part else "."),
            allowed="A state dict, alone or under a name such as 'state_dict' or 'model'.",
        )
    while wrapper := next((each for each in WRAPPERS if all(name.startswith(each) for name in found)), ""):
        found = {name.removeprefix(wrapper): each for name, each in found.items()}
    return found


def _safetensors(path: Path) -> dict[str, Any]:
    require("torch", "torch")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise HubError(f"'{path}' cannot be read as safetensors: {error}.", hint="Fetch it again.") from error


def _read(path: Path) -> Any:
    torch = require("torch", "torch")
    husks: list[Any] = []
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(husks):
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise HubError(f"There is no file '{path}'.") from error
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError: whatever a damaged file leads to.
            husks.append((Husk, _strange(path, error, len(husks))))


def _strange(path: Path, error: Exception, known: int) -> str:
    """Return the class that a file names and that stands in the way.

    Raises:
        HubError: something else does.
    """
    text = str(error)
    names = NAMED.findall(text)
    if "TorchScript" in text:
        raise HubError(
            f"'{path}' is a TorchScript archive: it holds a program, not only tensors.",
            hint="Save the network's tensors instead: torch.save(network.state_dict(), FILE)",
        ) from error
    if not names or known > MOST_NAMES:
        torn = "zip archive" in text or isinstance(error, EOFError)
        raise HubError(
            f"'{path}' cannot be read as a checkpoint: {'it is cut short' if torn else 'it is no file of tensors'}.",
            allowed="A safetensors file, or a state dict that torch.save wrote.",
            hint="Fetch it again if it may be cut short.",
        ) from error
    unallowed = "not an allowed global" in text
    name = names[0] if "." in names[0] else f"builtins.{names[0]}"
    if not unallowed or name.partition(".")[0] in ACTIVE:
        raise HubError(
            f"'{path}' is not opened: besides tensors it names {listed([name])}, which can run code.",
            allowed="A safetensors file, or a state dict that torch.save wrote.",
            hint="Do not use this file unless you know who made it.",
        ) from error
    return name


def _unwrapped(value: Any, part: str) -> dict[str, Any]:
    if isinstance(value, Husk):
        return dict(_of_module(value))
    if not isinstance(value, Mapping):
        return {}
    if part:
        return _unwrapped(value.get(part), "")
    own = {str(name): each for name, each in value.items() if _is_tensor(each)}
    if own and len(own) * 2 > len(value):
        return own
    for name in PARTS:
        if found := _unwrapped(value.get(name), ""):
            return found
    return own


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage")


def _of_module(husk: Husk, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a network that was saved whole, under the names that its state dict would have."""
    state = husk.state if isinstance(husk.state, Mapping) else {}
    skipped = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, each in (state.get(kind) or {}).items():
            if _is_tensor(each) and name not in skipped:
                yield prefix + name, each
    for name, each in (state.get("_modules") or {}).items():
        if isinstance(each, Husk):
            yield from _of_module(each, f"{prefix}{name}.")


def fit(module: Any, found: Mapping[str, Any], what: str) -> None:
    """Put tensors into a `torch.nn.Module`, all of them and nothing else.

    Args:
        what: where they come from, for errors.

    Raises:
        HubError: some are missing, are not asked for, or have other shapes.
    """
    asked = module.state_dict()
    counters = {name for name in asked if name.endswith("num_batches_tracked")}
    missing = [name for name in asked if name not in found and name not in counters]
    surplus = [name for name in found if name not in asked and not name.endswith("num_batches_tracked")]
    other = [
        f"{name} {json.dumps(list(found[name].shape))} in place of {json.dumps(list(asked[name].shape))}"
        for name in asked
        if name in found and found[name].shape != asked[name].shape and name not in counters
    ]
    problems = [
        f"{len(names)} {kind}: {listed(names, 4)}"
        for kind, names in (("missing", missing), ("not asked for", surplus), ("of another shape", other))
        if names
    ]
    if problems:
        raise HubError(
            f"The weights of '{what}' do not fit this architecture; tensors {'; '.join(problems)}.",
            allowed=f"It asks for {len(asked)} tensors, as its state_dict() names them.",
            hint="Name the architecture that the file was saved from.",
        )
    module.load_state_dict({name: each for name, each in found.items() if name in asked}, strict=False)
