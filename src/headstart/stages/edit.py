"""Edit: change a network's architecture, and write it where `fit` takes it as a backbone."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from headstart import modalities
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed, nearest
from headstart.core.layers import spread
from headstart.core.progress import Progress, Quiet
from headstart.core.registry import require
from headstart.stages.networks import Opened, fetch, start
from headstart.stages.sight import reseen, write_sight

KEYS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "backbone": ((str,), "A reference such as hf:owner/name or local:path/to/folder."),
    "weights": ((str,), "A file of weights."),
    "out": ((str,), "A folder that does not exist yet."),
    "tokens": ((list,), "A list of words."),
    "layers": ((int,), "How many layers stay."),
    "channels": ((int,), "1, for grey pictures; 4, for those with a fourth band, such as infrared."),
    "size": ((int, list), "Pixels of a side, or [height, width]."),
}
"""What a TOML file of edits may say: types, and what is allowed in words."""
LISTED: Mapping[str, type] = {"tokens": str, "size": int}
"""What lists hold."""


@dataclass(frozen=True)
class Edited:
    """Where an edited network is.

    Args:
        backbone: what to give as `backbone`.
        weights: what to give as `weights`; empty where the backbone is a folder with all that it needs.
        parameters: how many weights it has.
    """

    backbone: str
    weights: str
    parameters: int


def edit(
    backbone: str,
    out: Path | str,
    *,
    tokens: Sequence[str] = (),
    layers: int | None = None,
    channels: int | None = None,
    size: int | Sequence[int] | None = None,
    weights: str = "",
    change: Callable[[Any], None] | None = None,
    progress: Progress | None = None,
) -> Edited:
    """Change a network that gives vectors, and write it into a folder, from which it opens as any other does.

    Nothing of the code that changed it is needed again: what is written are tensors and their configuration.

    Args:
        backbone: a reference `hub:name`.
        out: the folder to write; it must not exist.
        tokens: words that the tokenizer is to keep whole; each begins as the mean of its pieces.
        layers: how many of a transformer's layers stay, evenly spread, the first and the last among them.
        channels: 1 makes a picture network read grey pictures: the weights for colours are added up. 4 makes it read
            what a PNG or TIFF has where others say how opaque a pixel is, such as infrared, with the mean of the
            colours' weights to begin with.
        size: pixels of each side, or height and width, that a picture network is to read; what says where patches stand
            is interpolated.
        weights: a local file whose weights are put into the named backbone before.
        change: is given the `torch.nn.Module` and changes its weights, such as beginning its last layer anew. What it
            inserts must be what the configuration tells of, or the network does not open again.

    Raises:
        UsageError: nothing is to be changed, or the network has no such parts.
        HubError: what was made does not open again.
        MissingExtra: PyTorch, or the network's library, is not installed.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"'{out}' exists; it will not be overwritten.", hint="Give another folder.")
    if not tokens and all(each is None for each in (layers, channels, size, change)):
        raise UsageError("Nothing is to be changed.", allowed="Give tokens, layers, channels, size or change.")
    require("torch", "finetune")
    from headstart.training.tuned import saved

    network = fetch(backbone, "", progress or Quiet(), str(weights))
    module = start(network, "torch", precision="f32").session.trainable().module
    changes: dict[str, Any] = _fewer(network, module, layers) if layers is not None else {}
    tokenizer = _longer(network, module, tokens) if tokens else None
    if tokenizer is not None:
        changes["vocab_size"] = module.get_input_embeddings().weight.shape[0]
    sight = channels is not None or size is not None
    if sight:
        changes |= reseen(network, module, channels, size)
    if change is not None:
        change(module)
    made = saved(network, module, out.resolve(), changes)
    if tokenizer is not None:
        tokenizer.save(str(made.folder / network.preprocessing["tokenizer"]))
    if sight:
        write_sight(network, made.folder, dict(made.config), size)
    parameters = sum(each.numel() for each in module.parameters())
    found = _open_again(made, out, parameters, sight)
    (progress or Quiet()).say(f"wrote {out}: {parameters:,} weights")
    return found


def _open_again(made: Network, out: Path, parameters: int, sight: bool) -> Edited:
    """Return how what was made is named, once it has opened from its files alone; remove it where it does not.

    Raises:
        HubError: it does not.
    """
    whole = (made.folder / "config.json").is_file()
    backbone, weights = (f"local:{out}", "") if whole else (made.backbone.reference, str(made.weights))
    try:
        opened = start(fetch(backbone, "", Quiet(), weights), "torch")
        if sight:
            _try(opened)
    except (HubError, RuntimeError, ValueError) as error:
        shutil.rmtree(made.folder)
        raise HubError(
            f"The edited network does not open again: {getattr(error, 'problem', error)}",
            allowed="Layers that its configuration tells of, with the names and shapes that they had.",
        ) from error
    return Edited(backbone, weights, parameters)


def _try(opened: Opened) -> None:
    """Run a network on a black picture: what does not fit together fails here."""
    modality = modalities.registry.get("image").of({"columns": ["image"]}).bind(opened.network)
    cells = np.empty(1, object)
    cells[0] = np.zeros((16, 16, 3), np.uint8)
    opened.session.run(modality.encode({"image": cells}))


def edit_file(path: Path | str, progress: Progress | None = None) -> Edited:
    """Do the edits that a TOML file tells of: `backbone`, `out`, and any of the others of `edit`.

    Raises:
        UsageError: a name or a value in it is not known, or one of the two is missing.
    """
    path = Path(path)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no file '{path}'.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"'{path}' cannot be read as TOML: {error}.") from error
    for name, value in told.items():
        if name not in KEYS:
            raise UsageError(
                f"'{path}' has '{name}', which no edit knows.",
                allowed=f"Names: {listed(KEYS, 20)}.",
                hint=nearest(name, KEYS),
            )
        kinds, allowed = KEYS[name]
        whole = not isinstance(value, list) or all(isinstance(each, LISTED[name]) for each in value)
        if isinstance(value, bool) or not isinstance(value, kinds) or not whole:
            raise UsageError(f"{name} in '{path}' is {value!r}.", allowed=allowed)
    for name in ("backbone", "out"):
        if name not in told:
            raise UsageError(f"'{path}' does not say '{name}'.", allowed=KEYS[name][1])
    return edit(told.pop("backbone"), told.pop("out"), **told, progress=progress)


def _fewer(network: Network, module: Any, layers: int) -> dict[str, Any]:
    from headstart.training.blocks import blocks_of
    from headstart.training.layers import cut

    count = len(blocks_of(module).blocks)
    try:
        if not 0 <= layers < count:
            raise ValueError(f"it has {count} layers, and {layers} are to stay")
        changes = cut(module, network.config, spread(count, layers))
    except ValueError as error:
        raise UsageError(f"'{network.backbone.reference}' cannot be made smaller: {error}.") from error
    return changes


def _longer(network: Network, module: Any, tokens: Sequence[str]) -> Tokenizer:
    """Give a text network more tokens, and return its tokenizer with them."""
    name = network.preprocessing.get("tokenizer")
    if not name or not hasattr(module, "resize_token_embeddings"):
        raise UsageError(
            f"'{network.backbone.reference}' has no vocabulary that can be extended.",
            allowed="Text networks of the transformers library.",
        )
    torch = require("torch", "finetune")
    tokenizer = Tokenizer.from_file(str(network.folder / name))
    pieces = {each: tokenizer.encode(each, add_special_tokens=False).ids for each in tokens}
    tokenizer.add_tokens(list(pieces))
    before = module.get_input_embeddings().weight.detach().clone()
    module.resize_token_embeddings(max(tokenizer.get_vocab_size(), len(before)), mean_resizing=False)
    rows = module.get_input_embeddings().weight
    with torch.no_grad():
        for each, parts in pieces.items():
            number = tokenizer.token_to_id(each) or 0
            if number >= len(before) and parts:
                rows[number] = before[torch.from_numpy(np.array(parts))].mean(dim=0)
    return tokenizer
