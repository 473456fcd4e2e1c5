"""Edit: change a network's architecture, and write it where `fit` takes it as a backbone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError
from headstart.core.progress import Progress, Quiet
from headstart.core.registry import require
from headstart.stages.networks import fetch, start


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
    if not tokens and layers is None and change is None:
        raise UsageError("Nothing is to be changed.", allowed="Give tokens, layers or change.")
    require("torch", "finetune")
    from headstart.training.tuned import saved

    network = fetch(backbone, "", progress or Quiet())
    module = start(network, "torch").session.trainable().module
    changes: dict[str, Any] = _fewer(network, module, layers) if layers is not None else {}
    tokenizer = _longer(network, module, tokens) if tokens else None
    if tokenizer is not None:
        changes["vocab_size"] = module.get_input_embeddings().weight.shape[0]
    if change is not None:
        change(module)
    made = saved(network, module, out.resolve(), changes)
    if tokenizer is not None:
        tokenizer.save(str(made.folder / network.preprocessing["tokenizer"]))
    parameters = sum(each.numel() for each in module.parameters())
    whole = (made.folder / "config.json").is_file()
    found = Edited(
        f"local:{out}" if whole else network.backbone.reference, "" if whole else str(made.weights), parameters
    )
    try:
        start(fetch(found.backbone, "", Quiet(), found.weights), "torch")
    except HubError as error:
        shutil.rmtree(made.folder)
        raise HubError(
            f"The edited network does not open again: {error.problem}",
            allowed="Layers that its configuration tells of, with the names and shapes that they had.",
        ) from error
    (progress or Quiet()).say(f"wrote {out}: {parameters:,} weights")
    return found


def _fewer(network: Network, module: Any, layers: int) -> dict[str, Any]:
    from headstart.training.blocks import blocks_of
    from headstart.training.layers import cut, spread

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
