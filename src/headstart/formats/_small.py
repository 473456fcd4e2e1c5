"""Small networks that were never pretrained: a text CNN, a bidirectional LSTM, a small ResNet.

They are built from their configuration alone, with random weights from its seed where they have none yet. They give an
`embedding`; nothing depends on what else is in a batch.

Sources: Kim 2014, arXiv:1408.5882 (CNN); Conneau and others 2017, arXiv:1705.02364 (BiLSTM with maxima over time); He
and others 2016, arXiv:1512.03385 (ResNet), with group norms (Wu and He 2018, arXiv:1803.08494), which suit few rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch.nn import functional

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.formats._checkpoint import fit, tensors

NONE = float("-inf")


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network cannot be built."""
    if network.use != "embed":
        return f"it is to {network.use.replace('_', ' ')}, and it gives vectors only"
    kind = network.config.get("kind")
    return "" if kind in KINDS else f"its kind is '{kind}', not one of {listed(KINDS)}"


def build(network: Network) -> Small:
    """Return the network; without a weights file its weights are random, made from the configuration's seed.

    Raises:
        HubError: the weights are not those of such a network.
    """
    reason = unsupported(network)
    if reason:
        raise HubError(f"'{network.backbone.reference}' cannot be opened: {reason}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(network.config.get("seed", 0)))
        module = KINDS[network.config["kind"]](network.config)
    if network.weights.suffix == ".safetensors":
        fit(module, tensors(network.weights), network.weights.name)
    return Small(module, network.backbone.modality)


class Convolutions(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Filters over windows of a text's tokens, and the largest answer of each: tokens (n, m) in, (n, width) out."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        inner, filters = int(config["inner"]), int(config["filters"])
        self.tokens = torch.nn.Embedding(int(config["vocabulary"]) + 1, inner, padding_idx=0)
        sizes = [int(each) for each in config["windows"]]
        self.filters = torch.nn.ModuleList([torch.nn.Conv1d(inner, filters, each, padding=each // 2) for each in sizes])
        self.dropout = torch.nn.Dropout(float(config["dropout"]))

    def forward(self, tokens: Any, lengths: Any) -> Any:
        """Return the vectors; token 0 is none."""
        inner = self.dropout(self.tokens(tokens)).transpose(1, 2)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        # A window of even size has one place more than there are tokens.
        found = [each(inner)[:, :, : tokens.shape[1]].masked_fill(~real[:, None], NONE) for each in self.filters]
        return self.dropout(torch.cat([each.amax(dim=2) for each in found], dim=1).relu())


class Recurrent(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A text read from both sides, and the largest answer of each cell: tokens (n, m) in, (n, width) out."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        inner, cells = int(config["inner"]), int(config["cells"])
        self.tokens = torch.nn.Embedding(int(config["vocabulary"]) + 1, inner, padding_idx=0)
        self.lstm = torch.nn.LSTM(inner, cells, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(float(config["dropout"]))

    def forward(self, tokens: Any, lengths: Any) -> Any:
        """Return the vectors; token 0 is none."""
        inner = self.dropout(self.tokens(tokens))
        packed = torch.nn.utils.rnn.pack_padded_sequence(inner, lengths.cpu(), batch_first=True, enforce_sorted=False)
        found, _ = torch.nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, padding_value=NONE, total_length=tokens.shape[1]
        )
        return self.dropout(found.amax(dim=1))


class Block(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Two convolutions beside a shortcut."""

    def __init__(self, into: int, out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.lower = torch.nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.lower_norm = torch.nn.GroupNorm(groups, out)
        self.upper = torch.nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.upper_norm = torch.nn.GroupNorm(groups, out)
        same = stride == 1 and into == out
        self.beside: Any = torch.nn.Identity() if same else torch.nn.Conv2d(into, out, 1, stride, bias=False)

    def forward(self, given: Any) -> Any:
        """Return maps (n, out, height, width)."""
        inner = functional.relu(self.lower_norm(self.lower(given)))
        return functional.relu(self.upper_norm(self.upper(inner)) + self.beside(given))


class Residual(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Blocks of convolutions, each stage at half the resolution: pixels (n, 3, height, width) in, (n, width) out."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths, groups = [int(each) for each in config["widths"]], int(config["groups"])
        size, stride = int(config["stem"]), int(config["stride"])
        self.stem = torch.nn.Conv2d(3, widths[0], size, stride, size // 2, bias=False)
        self.norm = torch.nn.GroupNorm(groups, widths[0])
        # A stem that strides is for large pictures, and a pool halves them once more.
        self.pool: Any = torch.nn.MaxPool2d(3, 2, 1) if stride > 1 else torch.nn.Identity()
        blocks, into = [], widths[0]
        for number, width in enumerate(widths):
            for each in range(int(config["blocks"])):
                blocks.append(Block(into, width, 2 if number and not each else 1, groups))
                into = width
        self.blocks = torch.nn.Sequential(*blocks)
        self.dropout = torch.nn.Dropout(float(config["dropout"]))

    def forward(self, pixels: Any) -> Any:
        """Return the vectors."""
        inner = self.pool(functional.relu(self.norm(self.stem(pixels))))
        return self.dropout(self.blocks(inner).mean((2, 3)))


KINDS: Mapping[str, Any] = {"cnn": Convolutions, "lstm": Recurrent, "resnet": Residual}


@final
class Small:
    """A small network: `ids` (flat) and `lengths` (n,), or `pixels`, in; `embedding` (n, width) out."""

    def __init__(self, module: Any, modality: str) -> None:
        self.module, self.modality = module, modality

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the vectors."""
        if self.modality == "image":
            return {"embedding": self.module(given["pixels"])}
        lengths = given["lengths"].long()
        # Token 0 stands for none, also in a text without any.
        rows = torch.split(given["ids"].long() + 1, lengths.tolist())
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        padded = functional.pad(padded, (0, max(0, 1 - padded.shape[1])))
        return {"embedding": self.module(padded, lengths.clamp(min=1))}
