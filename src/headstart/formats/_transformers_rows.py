"""Texts in rows for training: several short ones share a row, each read as if it were alone."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.formats._packing import assign
from headstart.formats._transformers import torch

SAME = {"float32": 1e-3}
"""How far apart the scores of a text alone and in a shared row may lie, as a share of the largest one."""


@dataclass(frozen=True)
class Rows:
    """Texts laid out in rows.

    Args:
        inputs: `input_ids` (rows, tokens); `position_ids` that begin anew with each text where texts share rows.
        to: (all tokens,) where each token of the flat ids stands in the flattened rows.
    """

    inputs: dict[str, Any]
    to: Any


def laid_out(ids: Any, lengths: Any, shared: bool) -> Rows:
    """Return texts side by side, as wide as the longest one.

    A decoder reads from left to right, so that what pads a row at its end changes nothing, and needs no mask. Where
    texts share rows, transformers tells them apart by positions that begin anew.

    Args:
        ids: flat tokens.
        lengths: (n,) tokens of each text.
        shared: let short texts stand behind others, where that saves rows.
    """
    count = lengths.cpu().numpy().astype(np.int64)
    width = max(1, int(count.max(initial=0)))
    row, offset, used = assign(count, width) if shared else (np.arange(len(count)), np.zeros_like(count), count)
    position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    to = torch.from_numpy(np.repeat(row * width + offset, count) + position).to(ids.device)
    shape = (len(used), width)
    inputs = {"input_ids": ids.new_zeros(shape[0] * width).index_put((to,), ids).view(shape)}
    if len(used) < len(count):
        flat = torch.from_numpy(position).to(ids.device)
        inputs["position_ids"] = torch.zeros_like(inputs["input_ids"]).view(-1).index_put((to,), flat).view(shape)
    return Rows(inputs, to)


def scores_at(module: Any, inputs: dict[str, Any], wanted: Any) -> Any:
    """Return the logits (k, vocabulary) of some tokens, running the wide head on those tokens only.

    Args:
        module: a model with a head behind its `base_model`.
        inputs: what it reads.
        wanted: (rows, tokens) bool.
    """
    narrowed = False

    def narrow(_module: Any, _given: Any, output: Any) -> Any:
        nonlocal narrowed
        if not (hasattr(output, "keys") and "last_hidden_state" in output):
            return output
        narrowed = True
        output["last_hidden_state"] = output["last_hidden_state"][wanted].unsqueeze(0)
        return output

    inside = module.base_model
    hook = inside.register_forward_hook(narrow) if inside is not module else None
    try:
        logits = module(**inputs).logits
    finally:
        if hook is not None:
            hook.remove()
    return logits[0] if narrowed else logits[wanted]


def logits_at(module: Any, inputs: dict[str, Any], wanted: Any) -> Any:
    """Return the logits (n, k, vocabulary) of wanted places (n, k), running the wide head on those only; can be traced.

    Args:
        module: a model with a head behind its `base_model`.
        inputs: what it reads.
    """
    narrowed = []

    def at_wanted(each: Any) -> Any:
        return each.gather(1, wanted[:, :, None].expand(-1, -1, each.shape[2]))

    def narrow(_module: Any, _given: Any, output: Any) -> Any:
        narrowed.append(True)
        output["last_hidden_state"] = at_wanted(output["last_hidden_state"])
        return output

    hook = module.base_model.register_forward_hook(narrow)
    try:
        logits = module(**inputs).logits
    finally:
        hook.remove()
    # Some call what is inside their base model, whose hooks they pass by.
    return logits if narrowed else at_wanted(logits)


def keeps_apart(module: Any) -> bool:
    """Return whether a decoder reads a text in a shared row as it reads it alone.

    It is tried, because it depends on the architecture: a recurrent network carries over what came before.
    """
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return False
    first = next(module.parameters())
    ids = torch.arange(8, device=first.device) % max(2, module.config.get_text_config().vocab_size)
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]], device=ids.device)
    limit = SAME.get(str(first.dtype).removeprefix("torch."), 0.05)
    with _as_it_answers(module), torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        together = module(input_ids=ids[None], position_ids=positions, use_cache=False).logits[0, 5:].float()
        alone = module(input_ids=ids[None, 5:], use_cache=False).logits[0].float()
    return bool((together - alone).abs().max() <= limit * alone.abs().max().clamp(min=1e-6))


@contextlib.contextmanager
def _as_it_answers(module: Any) -> Iterator[None]:
    """Put every part into inference mode, and back into its own."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was in before:
            part.training = was
