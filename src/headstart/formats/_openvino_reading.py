"""What is traced of encoders that read whole texts, and how their graphs run (`formats/_openvino_torch.py`).

Texts are sorted by length and padded in batches of about as many tokens each. Encoders of the BERT family that give
vectors are not traced: `formats/_bert_graph.py` builds their graphs from the weights, and they need no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats import _bert_graph
from headstart.formats._openvino import ov

USES = ("answer", "classify", "embed", "fill_mask", "tag_tokens", "zero_shot")
LENGTHS = ((7, 4), (3, 12, 5), (1,), (800,))
"""Tokens of the texts that it is traced with, and then compared with: some attend otherwise where a text is long."""
SPARE = 8
"""Tokens fewer than a configuration says that are surely read: some count positions from 2."""
AT_ONCE = 2048
"""Tokens of one batch, padding included."""


def concerns(network: Network) -> bool:
    """Return whether it is an encoder of transformers that reads texts, and is not built from its weights."""
    if network.library != "transformers" or network.backbone.modality != "text" or network.use not in USES:
        return False
    return network.use != "embed" or bool(_bert_graph.unsupported(network))


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    if network.config.get("is_encoder_decoder"):
        return "it is an encoder with a decoder"
    if str(network.config.get("attention_type", "")) == "block_sparse":
        return "it attends otherwise where a text is long"
    return ""


def examples(network: Network) -> list[Arrays]:
    """Return texts of tokens by chance."""
    rng, found = np.random.default_rng(0), list[Arrays]()
    most = max(1, int(network.config.get("max_position_embeddings") or 512 + SPARE) - SPARE)
    for each in LENGTHS:
        lengths = [min(length, most) for length in each]
        total = sum(lengths)
        ids = rng.integers(0, int(network.config["vocab_size"]), total).astype(np.int32)
        asked = {"positions": np.arange(0, total, 2, dtype=np.int32)} if network.use == "fill_mask" else {}
        found.append({"ids": ids, "lengths": np.array(lengths, np.int32), **asked})
    return found


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: what `shapes` says, in its order."""
    arrays = examples(network)[0]
    (batch,) = _batches(arrays, _padding(network), _marked(arrays) if network.use == "fill_mask" else None)
    return batch.inputs


def values(built: Any, *given: Any) -> Any:
    """Return what the use asks for of texts side by side."""
    return built.beside(*given)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of ids, mask and kinds of tokens, and of asked places where words are hidden."""
    return [ov.PartialShape([-1, -1])] * (4 if network.use == "fill_mask" else 3)


def _padding(network: Network) -> int:
    found = network.config.get("pad_token_id")
    return int(found) if found is not None and found >= 0 else 0


def _marked(arrays: Arrays) -> np.ndarray:
    """Return for each flat token which of the asked places it is, or -1."""
    slots = np.full(len(arrays["ids"]), -1, np.int64)
    slots[np.asarray(arrays["positions"], np.int64)] = np.arange(len(arrays["positions"]))
    return slots


@dataclass(frozen=True)
class _Batch:
    """Some texts side by side, padded at the end.

    Args:
        texts: (b,) which texts they are.
        flat: (b, tokens) where each token stands in the flat ids.
        real: (b, tokens) whether there is a token.
        slots: (b, k) which of the asked places are those in a text, -1 where it has fewer.
        inputs: what the graph reads; last, where places are asked for, (b, k) where they stand in a text.
    """

    texts: np.ndarray
    flat: np.ndarray
    real: np.ndarray
    slots: np.ndarray
    inputs: tuple[np.ndarray, ...]


def _batches(arrays: Arrays, padding: int, marked: np.ndarray | None) -> Iterator[_Batch]:
    """Yield texts in batches, the longest first.

    Args:
        marked: which of the asked places each flat token is, -1 for none; batches without any are left out.
    """
    ids, lengths = np.asarray(arrays["ids"], np.int64), np.asarray(arrays["lengths"], np.int64)
    starts, order, at = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable"), 0
    while at < len(order):
        width = max(1, int(lengths[order[at]]))
        texts = order[at : at + max(1, AT_ONCE // width)]
        at += len(texts)
        place = np.arange(width)
        real = place < lengths[texts, None]
        flat = np.where(real, starts[texts, None] + place, 0)
        rows = np.where(real, ids[flat], padding) if len(ids) else np.full(flat.shape, padding)
        seen = real.copy()
        seen[:, 0] = True  # a text without any token is read as one padding token
        kinds = np.where(real, np.asarray(arrays["types"], np.int64)[flat], 0) if "types" in arrays else 0 * rows
        inputs = [rows, seen.astype(np.int64), kinds]
        slots = np.zeros((0, 0), np.int64)
        if marked is not None:
            asked = [np.flatnonzero(row) for row in real & (marked[flat] >= 0)]
            most = max(len(each) for each in asked)
            if not most:
                continue
            wanted, slots = np.zeros((len(texts), most), np.int64), np.full((len(texts), most), -1, np.int64)
            for row, each in enumerate(asked):
                wanted[row, : len(each)], slots[row, : len(each)] = each, marked[flat[row, each]]
            inputs.append(wanted)
        yield _Batch(texts, flat, real, slots, tuple(inputs))


@final
class ReadingSession(Session):
    """A compiled encoder: `ids` (flat), `lengths` (n,) and, where it needs them, `types` and `positions` in."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.request, self.network = compiled.create_infer_request(), network

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return what `core/pipeline.py` lists for the use, in the order of the inputs.

        Raises:
            HubError: there is no such pooling.
        """
        use = self.network.use
        marked = _marked(arrays) if use == "fill_mask" else None
        found: dict[str, np.ndarray] = {}
        for batch in _batches(arrays, _padding(self.network), marked):
            made = self.request.infer(list(batch.inputs))
            outputs = [np.asarray(made[place], np.float32) for place in range(len(made))]
            if use == "fill_mask":
                known = batch.slots >= 0
                _put(found, "logits", len(arrays["positions"]), batch.slots[known], outputs[0][known])
            elif use in ("tag_tokens", "answer"):
                names = ("logits",) if use == "tag_tokens" else ("start", "end")
                for name, each in zip(names, outputs, strict=True):
                    _put(found, name, len(arrays["ids"]), batch.flat[batch.real], each[batch.real])
            elif use == "embed":
                vectors = _pooled(self.network, outputs[0], batch.inputs[1])
                _put(found, "embedding", len(arrays["lengths"]), batch.texts, vectors)
            else:
                _put(found, "logits", len(arrays["lengths"]), batch.texts, outputs[0])
        return found


def _put(found: dict[str, np.ndarray], name: str, rows: int, places: np.ndarray, values: np.ndarray) -> None:
    if name not in found:
        found[name] = np.zeros((rows, *values.shape[1:]), np.float32)
    found[name][places] = values


def _pooled(network: Network, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return vectors (n, width) of texts (n, tokens, width), as the network says."""
    mode, seen = network.pooling.get("mode", "mean"), mask[:, :, None].astype(bool)
    if mode == "cls":
        vectors = hidden[:, 0]
    elif mode == "max":
        vectors = np.where(seen, hidden, -np.inf).max(axis=1)
    elif mode == "mean":
        # What stands at padding may be no number at all: it saw nothing.
        vectors = np.where(seen, hidden, 0).sum(axis=1) / seen.sum(axis=1)
    else:
        raise HubError(f"There is no pooling '{mode}'.", allowed="Poolings: 'mean', 'cls', 'max'.")
    if network.pooling.get("normalize"):
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return vectors.astype(np.float32)


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return ReadingSession(compiled, network)
