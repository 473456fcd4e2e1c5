"""What is traced of decoders that write text, and how their graphs write (`formats/_openvino_torch.py`).

What a graph has read stands in its state: keys and values of every layer, as long as the texts that go on side by side.
Texts stand in rows with padding in front, so that all go on at the same place; the mask says what each token sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import DataError, HubError
from headstart.core.files import read_json
from headstart.formats._openvino import ov
from headstart.formats._sampling import Sampler, asked_for, drawing

LENGTHS = ((6, 3), (2, 9, 5), (1,), (12,))
"""Tokens of the texts that it is traced with, and then compared with."""
TRACED = (2, 5, 3)
"""Texts, tokens, and tokens before them that it is traced with."""
AT_ONCE, PIECE = 2048, 256
"""Tokens of a batch of texts that are judged, padding included, and of a part of each that goes through at once."""
HIDDEN = -1e9
"""What is added to the score of a token that is not seen."""
LONGEST = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
"""What configurations call the most tokens that a network reads."""
LENGTHENED = ("dynamic", "longrope", "su")
"""Kinds of rotary positions that differ where a text is longer, which a trace would fix."""


def concerns(network: Network) -> bool:
    """Return whether it is a decoder of transformers that writes."""
    return (
        network.library == "transformers"
        and network.backbone.modality == "text"
        and network.use == "generate"
        and not network.config.get("is_encoder_decoder")
    )


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    turned = network.config.get("rope_scaling") or network.config.get("rope_parameters") or {}
    kind = str(turned.get("rope_type") or turned.get("type") or "") if isinstance(turned, dict) else ""
    if kind in LENGTHENED:
        return f"its positions depend on how long a text is ({kind})"
    own = own_settings(network)
    asked = asked_for(own)
    return f"it asks for {', '.join(asked)}, which PyTorch's library knows" if asked else ""


def own_settings(network: Network) -> dict[str, Any]:
    """Return how the network says that tokens are to be chosen."""
    path = network.folder / "generation_config.json"
    if not path.is_file():
        return {"eos_token_id": network.config.get("eos_token_id")}
    found: dict[str, Any] = read_json(path, HubError)
    return found


def longest(network: Network) -> int | None:
    """Return the most tokens that a network reads; None where nothing says."""
    return next((int(network.config[name]) for name in LONGEST if network.config.get(name)), None)


def examples(network: Network) -> list[Arrays]:
    """Return texts of tokens by chance, whose last tokens are judged: alone, so that no sum hides a difference."""
    rng, most = np.random.default_rng(0), longest(network) or max(map(max, LENGTHS))
    found = list[Arrays]()
    for lengths in LENGTHS:
        counts = np.minimum(lengths, most).astype(np.int32)
        ids = rng.integers(0, int(network.config["vocab_size"]), counts.sum()).astype(np.int32)
        weights = np.zeros(len(ids), np.float32)
        weights[np.cumsum(counts) - 1] = 1
        found.append({"ids": ids, "lengths": counts, "weights": weights})
    return found


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: what `shapes` says, in its order."""
    texts, tokens, before = TRACED
    ids = np.arange(texts * tokens).reshape(texts, tokens) % int(network.config["vocab_size"])
    position = np.tile(np.arange(before, before + tokens), (texts, 1))
    mask = causal(np.ones((texts, before + tokens), bool), before)
    rng = np.random.default_rng(0)
    past = [rng.normal(size=(texts, heads, before, width)).astype(np.float32) for heads, width in built.past()]
    return (ids.astype(np.int64), position.astype(np.int64), mask, np.zeros((texts, 1), np.int64), *past)


def values(built: Any, *given: Any) -> Any:
    """Return the scores of the wanted tokens' successors, and keys and values, all in a row."""
    return built.onwards(*given)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of ids, positions, mask, wanted places, and of keys and values in turns."""
    plain = [[-1, -1], [-1, -1], [-1, 1, -1, -1], [-1, -1]]
    return [ov.PartialShape(each) for each in [*plain, *([-1, heads, -1, width] for heads, width in built.past())]]


def finished(graph: Any) -> Any:
    """Return the graph with keys and values as its state."""
    for name, each in zip(("ids", "position", "mask", "wanted"), graph.inputs, strict=False):
        each.get_tensor().set_names({name})
    graph.outputs[0].get_tensor().set_names({"logits"})
    return keep_read(graph, graph.inputs[4:], graph.outputs[1:])


def keep_read(graph: Any, held: Sequence[Any], made: Sequence[Any]) -> Any:
    """Return a graph that keeps what it has read: each of `made` is what the next request finds in `held`."""
    from openvino._offline_transformations import apply_make_stateful_transformation

    pairs = {}
    for number, (before, after) in enumerate(zip(held, made, strict=True)):
        before.get_tensor().set_names({f"past.{number}"})
        after.get_tensor().set_names({f"present.{number}"})
        pairs[f"past.{number}"] = f"present.{number}"
    apply_make_stateful_transformation(graph, pairs)
    return graph


def causal(seen: np.ndarray, start: int) -> np.ndarray:
    """Return what is added to scores (n, 1, tokens, all): each token from `start` sees itself and what is before it.

    Args:
        seen: (n, all) bool, where there is a token.
    """
    column, row = np.arange(seen.shape[1]), np.arange(start, seen.shape[1])[:, None]
    # A token sees itself even where it is padding: no row of a softmax may be empty.
    open_to = ((column <= row) & seen[:, None, :]) | (column == row)
    return np.where(open_to, 0, HIDDEN).astype(np.float32)[:, None]


@final
class _Reading:
    """Texts that a graph reads side by side, piece by piece; what it has read stands in the request's state."""

    def __init__(self, compiled: Any, texts: int) -> None:
        self.request = compiled.create_infer_request()
        for state in self.request.query_state():
            _, heads, _, width = state.state.shape
            state.state = ov.Tensor(np.zeros((texts, heads, 0, width), np.float32))
        self.seen = np.zeros((texts, 0), bool)

    def onwards(self, ids: np.ndarray, real: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Read on, and return scores (n, k, vocabulary) of what follows the wanted places (n, k) of these tokens.

        Args:
            ids: (n, tokens).
            real: (n, tokens) bool, which of them are no padding.
        """
        start = self.seen.shape[1]
        self.seen = np.concatenate([self.seen, real], axis=1)
        position = np.maximum(np.cumsum(self.seen, axis=1)[:, start:] - 1, 0)
        arrays = {"ids": ids, "position": position, "mask": causal(self.seen, start), "wanted": wanted}
        whole = {
            name: each if name == "mask" else np.ascontiguousarray(each, np.int64) for name, each in arrays.items()
        }
        return np.array(self.request.infer(whole)["logits"], np.float32)


@final
class WritingSession(Session):
    """A compiled decoder: `ids` (flat), `lengths` (n,) in; with `weights` (flat), `nats` (n,) out; or it writes on."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.compiled, self.own, self.longest = compiled, own_settings(network), longest(network)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `nats` (n,): how unlikely the weighted tokens of each text are, each after those before it."""
        if "weights" not in arrays:
            return {}
        lengths = np.asarray(arrays["lengths"], np.int64)
        starts, order = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable")
        nats, at = np.zeros(len(lengths), np.float32), 0
        while at < len(order):
            width = int(lengths[order[at]])
            rows = order[at : at + max(1, AT_ONCE // max(width, 1))]
            place = np.arange(width)
            real = place < lengths[rows, None]
            flat = np.where(real, starts[rows, None] + place, 0)
            weights = np.where(real & (place > 0), arrays["weights"][flat], 0.0)
            if width:
                nats[rows] = self._nats(np.where(real, arrays["ids"][flat], 0), real, weights)
            at += len(rows)
        return {"nats": nats}

    def _nats(self, ids: np.ndarray, real: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the nats (n,) of texts (n, tokens), read in two pieces or more: so memory and state are tried."""
        reading, width, found = _Reading(self.compiled, len(ids)), ids.shape[1], np.zeros(len(ids))
        piece = min(PIECE, -(-width // 2))
        for start in range(0, width, piece):
            end = min(start + piece, width)
            # The token at each of these places is foretold at the place before it.
            told = [np.flatnonzero(row) for row in weights[:, start + 1 : end + 1] > 0]
            wanted = np.zeros((len(ids), max(1, *(len(each) for each in told))), np.int64)
            for row, each in enumerate(told):
                wanted[row, : len(each)] = each
            scores = reading.onwards(ids[:, start:end], real[:, start:end], wanted)
            for row, each in enumerate(told):
                next_ones = ids[row, start + 1 + each]
                own = scores[row, : len(each)]
                largest = own.max(axis=1, initial=-np.inf)
                total = largest + np.log(np.exp(own - largest[:, None]).sum(axis=1))
                likely = own[np.arange(len(each)), next_ones]
                found[row] += ((total - likely) * weights[row, start + 1 + each]).sum()
        return found

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield `tokens` (n,) int64 for each step; -1 where a text has come to its end.

        Args:
            arrays: `ids` (flat) and `lengths` (n,) of the texts to continue.
            settings: as in `formats/_transformers_writing.py`.

        Raises:
            DataError: a text fills all that the network can read.
        """
        lengths = np.asarray(arrays["lengths"], np.int64)
        if not len(lengths) or lengths.min() == 0:
            raise DataError("There is no token to begin with.", hint="Give at least one word.")
        width = int(lengths.max())
        if self.longest is not None and width >= self.longest:
            raise DataError(f"The text has {width} tokens, which is all that this network can read.")
        most = int(settings["max_tokens"])
        return self._written(arrays, lengths, min(most, self.longest - width) if self.longest else most, settings)

    def _written(
        self, arrays: Arrays, lengths: np.ndarray, most: int, settings: Mapping[str, Any]
    ) -> Iterator[dict[str, np.ndarray]]:
        texts, width = len(lengths), int(lengths.max())
        place = np.arange(width) - (width - lengths[:, None])
        real = place >= 0
        starts = (np.cumsum(lengths) - lengths)[:, None]
        ids = np.where(real, arrays["ids"][np.where(real, starts + place, 0)], 0)
        sampler = Sampler(drawing(settings, self.own), texts)
        ends = np.array(sorted({*_numbers(self.own.get("eos_token_id")), *(settings.get("end") or ())}), np.int64)
        penalty = float(self.own.get("repetition_penalty") or 1)
        known = [row[own] for row, own in zip(ids, real, strict=True)]
        reading, over = _Reading(self.compiled, texts), np.zeros(texts, bool)
        for start in range(0, width, PIECE):
            part = slice(start, min(start + PIECE, width))
            last = np.full((texts, 1), part.stop - part.start - 1)
            scores = reading.onwards(ids[:, part], real[:, part], last)
        for step in range(most):
            tokens = sampler.pick(_penalised(scores[:, 0], known, penalty)).astype(np.int64)
            over = over | np.isin(tokens, ends)
            yield {"tokens": np.where(over, -1, tokens)}
            if over.all() or step == most - 1:
                return
            known = [np.append(row, token) for row, token in zip(known, tokens, strict=True)]
            scores = reading.onwards(tokens[:, None], np.ones((texts, 1), bool), np.zeros((texts, 1)))


def _penalised(scores: np.ndarray, known: Sequence[np.ndarray], penalty: float) -> np.ndarray:
    """Return scores (n, vocabulary) in which tokens that stand in a text already are less likely.

    Source: Keskar et al., CTRL, 2019, section 4.1.
    """
    if penalty == 1:
        return scores
    scores = scores.copy()
    for row, tokens in zip(scores, known, strict=True):
        own = row[tokens]
        row[tokens] = np.where(own < 0, own * penalty, own / penalty)
    return scores


def _numbers(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(each) for each in (value if isinstance(value, (list, tuple)) else [value])]


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return WritingSession(compiled, network)
