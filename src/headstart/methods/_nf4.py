"""A network whose linear layers stay as they are, in four bits: the base that a low-rank adapter is learnt on.

Normal floats of four bits with double quantisation, by bitsandbytes (Dettmers and others 2023, QLoRA,
arXiv:2305.14314). A network of billions of weights fits into one GPU's memory so; it is slower than a whole one.
"""

from __future__ import annotations

from typing import Any

from headstart.core.registry import require


def linear_layers(module: Any, but: set[str]) -> dict[str, Any]:
    """Return the linear layers that are made narrow, by name: all but the one that gives the network's scores.

    Args:
        but: names of others that are left as they are.
    """
    torch = require("torch", "finetune")
    last = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    return {
        name: each
        for name, each in module.named_modules()
        if type(each) is torch.nn.Linear and each is not last and name not in but
    }


def narrow(module: Any, names: list[str]) -> None:
    """Put layers of four bits in place of linear ones; on a GPU where there is one.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """
    torch, bnb = require("torch", "finetune"), require("bitsandbytes", "nf4")
    on_gpu = torch.cuda.is_available()
    half = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float16
    kind = half if on_gpu else torch.float32

    class Still(bnb.nn.Linear4bit):  # type: ignore[misc, name-defined]
        """A layer that never changes, and is therefore no part of the state of what is learnt."""

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            pass

        def _load_from_state_dict(self, *_: Any) -> None:
            pass

    module.is_loaded_in_4bit = True  # by which peft knows it
    for name in names:
        parent, _, last = name.rpartition(".")
        old = module.get_submodule(name)
        new = Still(old.in_features, old.out_features, old.bias is not None, kind, True, "nf4")
        # On processors with bf16 it would lay the weights out anew with the first answer, for some widths alone.
        new.support_avx512bf16_for_cpu = False
        weight = old.weight.detach().to("cpu", torch.float32).contiguous()
        new.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
        if old.bias is not None:
            new.bias = old.bias
        setattr(module.get_submodule(parent), last, new.to("cuda" if on_gpu else "cpu"))
