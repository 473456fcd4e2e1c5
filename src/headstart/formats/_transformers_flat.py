"""Text encoders of transformers that read texts one behind the other, each token seeing its own text alone.

Nothing is padded: attention is told where each text begins (`torch.nn.attention.varlen`; Dao 2023, arXiv:2307.08691).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any, final

from headstart.core.backbone import Network
from headstart.core.registry import require
from headstart.formats._transformers import torch, transformers

NAME = "headstart_flat"
"""What this attention is called among those of transformers."""
FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
BEHIND = ("camembert", "roberta", "xlm-roberta")
"""Families whose first position is the one behind the padding token's number."""
REDUCE = {"mean": "mean", "max": "max"}


def unsupported(module: Any) -> str:
    """Return an empty string, or why a module cannot read texts so."""
    config = module.config
    if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
        return f"its kind is '{config.model_type}'"
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"PyTorch {torch.__version__} has no attention of varying length"
    return "" if config.hidden_size // config.num_attention_heads % 8 == 0 else "its heads are of an odd width"


def attend(
    module: Any, query: Any, key: Any, value: Any, mask: Any, *, edges: Any, longest: int, **_: Any
) -> tuple[Any, None]:
    """Return what each token sees (1, tokens, heads, width) of its own text, as transformers asks attention.

    Args:
        query, key, value: (1, heads, tokens, width).
        edges: (texts + 1,) where texts begin, and the last one ends.
        longest: no text has more tokens.
    """
    each = [some[0].transpose(0, 1) for some in (query, key, value)]
    if query.is_cuda:
        varlen = require("torch.nn.attention.varlen", "torch")
        return varlen.varlen_attn(*each, edges, edges, longest, longest)[None], None
    found = torch.zeros_like(each[0])
    for first, last in zip(edges.tolist(), edges.tolist()[1:], strict=False):
        own = [some[first:last].transpose(0, 1)[None] for some in each]
        found[first:last] = torch.nn.functional.scaled_dot_product_attention(*own)[0].transpose(0, 1)
    return found[None], None


transformers.AttentionInterface.register(NAME, attend)
transformers.AttentionMaskInterface.register(NAME, lambda *_, **__: None)


@final
class Flat:
    """A text encoder that gives the vectors of texts one behind the other.

    Args:
        module: an encoder that `unsupported` has nothing against.
    """

    def __init__(self, network: Network, module: Any) -> None:
        self.module, self.pooling = module, network.pooling
        self.width = int(module.config.hidden_size)
        self.first = int(module.config.pad_token_id) + 1 if module.config.model_type in BEHIND else 0

    def vectors(self, given: Mapping[str, Any], longest: int) -> dict[str, Any]:
        """Return `embedding` (texts, width) in float32; a text without tokens gets numbers that mean nothing.

        Args:
            given: `ids` and `positions` (1, tokens), tokens behind the last text being of none; `edges` (texts + 1,).
            longest: no text has more tokens.
        """
        edges = given["edges"]
        with self._attention():
            hidden = self.module(
                input_ids=given["ids"], position_ids=given["positions"], edges=edges, longest=longest
            ).last_hidden_state[0].float()  # fmt: skip
        mode = self.pooling.get("mode", "mean")
        if mode == "cls":
            found = hidden[edges[:-1].long().clamp(max=len(hidden) - 1)]
        else:
            found = torch.segment_reduce(hidden, REDUCE[mode], lengths=edges.diff().long(), unsafe=True)
        return {"embedding": torch.nn.functional.normalize(found, dim=1) if self.pooling.get("normalize") else found}

    @contextlib.contextmanager
    def _attention(self) -> Iterator[None]:
        config = self.module.config
        usual = config._attn_implementation
        config._attn_implementation = NAME
        try:
            yield
        finally:
            config._attn_implementation = usual
