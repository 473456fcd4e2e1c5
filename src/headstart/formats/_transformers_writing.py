"""Networks of the transformers library that write text, token by token."""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from headstart.core.errors import DataError, ResourceError, UsageError
from headstart.formats._sampling import Sampler, drawing
from headstart.formats._transformers import cache_of, quiet, torch, transformers
from headstart.formats._transformers_rows import keeps_apart, laid_out, logits_at, scores_at

WAIT = 0.2
"""Seconds between two looks at whether the reader has gone away."""
AT_ONCE = 4096
"""Tokens of texts that are judged together, padding included."""
IGNORED = -100


class Writer:
    """A decoder, or an encoder with a decoder, that continues the texts it is given.

    transformers' own `generate` runs in a thread and hands over each step's tokens: the key-value cache, penalties and
    the many kinds of networks are its work, the drawing of tokens is `Sampler`'s.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.twofold = bool(getattr(module.config, "is_encoder_decoder", False))
        self.shares: bool | None = None

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `nats` (n,) of texts with `weights`: how unlikely their weighted tokens are, each after those before.

        Without weights there is nothing to return: such a network generates.
        """
        if "weights" not in given:
            return {}
        lengths = given["lengths"].long()
        nats = torch.zeros(len(lengths), device=lengths.device)
        starts = lengths.cumsum(0) - lengths
        order = torch.argsort(lengths, descending=True, stable=True)
        at = 0
        while at < len(order):
            some = order[at : at + max(1, AT_ONCE // max(1, int(lengths[order[at]])))]
            own = torch.cat([torch.arange(int(lengths[each]), device=lengths.device) + starts[each] for each in some])
            part = {"ids": given["ids"][own], "lengths": lengths[some], "weights": given["weights"][own]}
            each, weights, text = self._each(part)
            nats.index_add_(0, some[text], each * weights)
            at += len(some)
        return {"nats": nats}

    def loss(self, given: Mapping[str, Any]) -> Any:
        """Return the mean () of how unlikely the weighted tokens are, in nats; short texts share rows where they can.

        Args:
            given: `ids` (flat), `lengths` (n,), and `weights` (flat): 1 where a token is learnt, 0 where it is read.
        """
        nats, weights, _ = self._each(given)
        return (nats * weights).sum() / weights.sum().clamp(min=1e-9)

    def _each(self, given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return of each learnt token how unlikely it is, its weight, and the number of its text, (k,) each."""
        ids, lengths, weights = given["ids"].long(), given["lengths"].long(), given["weights"].float()
        text = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), lengths)
        if self.twofold:
            return self._each_answer(ids, lengths, weights, text)
        if self.shares is None:
            self.shares = keeps_apart(self.module)
        rows = laid_out(ids, lengths, self.shares)
        first = lengths.cumsum(0) - lengths
        learnt = weights > 0
        learnt[first[lengths > 0]] = False  # nothing stands before a text's first token
        told = learnt.nonzero()[:, 0]
        # Where each learnt token is foretold: at the token before it.
        place = torch.full((rows.inputs["input_ids"].numel(),), -1, device=ids.device)
        place[rows.to[told - 1]] = told
        wanted = place.view(rows.inputs["input_ids"].shape) >= 0
        told = place[place >= 0]
        logits = scores_at(self.module, {**rows.inputs, "use_cache": False}, wanted)
        nats = torch.nn.functional.cross_entropy(logits.float(), ids[told], reduction="none")
        return nats, weights[told], text[told]

    def _each_answer(self, ids: Any, lengths: Any, weights: Any, text: Any) -> tuple[Any, Any, Any]:
        """Return the same of an encoder with a decoder: it reads what stands before the first weighted token."""
        place = torch.arange(len(ids), device=ids.device) - (lengths.cumsum(0) - lengths)[text]
        begins = torch.full_like(lengths, int(lengths.max())).scatter_reduce(
            0, text, torch.where(weights > 0, place, int(lengths.max())), "amin"
        )
        answer = place >= begins[text]
        inputs, seen = _padded(ids[~answer], text[~answer], place[~answer], len(lengths), 0)
        labels, _ = _padded(ids[answer], text[answer], (place - begins[text])[answer], len(lengths), IGNORED)
        logits = self.module(input_ids=inputs, attention_mask=seen, labels=labels, use_cache=False).logits
        learnt = labels != IGNORED
        nats = torch.nn.functional.cross_entropy(logits[learnt].float(), labels[learnt], reduction="none")
        return nats, weights[answer], text[answer]

    def past(self) -> list[tuple[int, int]]:
        """Return heads and width of the keys and the values that each layer keeps, in turns.

        Raises:
            UsageError: it keeps something else.
        """
        ids = torch.zeros((1, 1), dtype=torch.long, device=next(self.module.parameters()).device)
        with torch.inference_mode():
            kept = self.module(input_ids=ids, use_cache=True).past_key_values
        layers = getattr(kept, "layers", None)
        if not layers or any(type(each) is not transformers.cache_utils.DynamicLayer for each in layers):
            raise UsageError("It keeps something else than keys and values of all that it has read.")
        return [(each.shape[1], each.shape[3]) for layer in layers for each in (layer.keys, layer.values)]

    def onwards(self, ids: Any, position: Any, mask: Any, wanted: Any, *past: Any) -> tuple[Any, ...]:
        """Return logits (n, k, vocabulary) of what follows wanted tokens, then keys and values as in `past`.

        Args:
            ids, position: (n, tokens) of what is read now.
            mask: (n, 1, tokens, all) what is added to the scores of attention.
            wanted: (n, k) places among the tokens.
            past: keys and values (n, heads, before, width) of each layer, in turns.
        """
        cache = cache_of(past)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": position}
        logits = logits_at(self.module, {**inputs, "past_key_values": cache, "use_cache": True}, wanted)
        return (logits, *(each for layer in cache.layers for each in (layer.keys, layer.values)))

    def generate(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `tokens` (n,) int64 for each step; -1 where a text has come to its end.

        Args:
            given: `ids` (flat) and `lengths` (n,) of the texts to continue.
            settings: `max_tokens`; `temperature`, `top_k`, `top_p` and `seed` (see `Sampler`; None: the network's own);
                `end`, more tokens that end a text.

        Raises:
            DataError: a text fills all that the network can read.
        """
        ids, mask = self._left_padded(given)
        plan = self._plan(settings, ids.shape[1])
        ends = {*_numbers(plan.eos_token_id), *(settings.get("end") or ())}
        plan.eos_token_id, plan.pad_token_id = sorted(ends) or None, min(ends, default=0)
        drawn = Drawn(settings, plan, len(ids), ends)
        thread = threading.Thread(target=self._work, args=(ids, mask, plan, drawn), daemon=True)
        thread.start()
        try:
            yield from drawn.steps()
        finally:
            drawn.gone.set()
            thread.join()

    def _work(self, ids: Any, mask: Any, plan: Any, drawn: Drawn) -> None:
        try:
            with quiet(), torch.inference_mode():
                self.module.generate(
                    ids,
                    attention_mask=mask,
                    generation_config=plan,
                    logits_processor=[drawn.choose],
                    stopping_criteria=[drawn.left],
                    streamer=drawn,
                )
            drawn.hand(None)
        except Exception as error:  # it is raised again where the tokens are read
            drawn.hand(error)

    def _left_padded(self, given: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the texts (n, tokens) with padding in front, so that all go on at the same place, and their mask."""
        ids, lengths = given["ids"].long(), given["lengths"].long()
        if int(lengths.min()) == 0:
            raise DataError("There is no token to begin with.", hint="Give at least one word.")
        width = int(lengths.max())
        place = torch.arange(width, device=ids.device) - (width - lengths[:, None])
        real = place >= 0
        starts = (lengths.cumsum(0) - lengths)[:, None]
        return torch.where(real, ids[torch.where(real, starts + place, 0)], 0), real.long()

    def _plan(self, settings: Mapping[str, Any], width: int) -> Any:
        """Return transformers' settings: the network's own, without drawing, for as many tokens as there is room."""
        plan = copy.deepcopy(self.module.generation_config)
        wanted, room = int(settings["max_tokens"]), self._room(width)
        if room is not None and room <= 0:
            raise DataError(f"The text has {width} tokens, which is all that this network can read.")
        plan.max_new_tokens, plan.max_length = min(wanted, room) if room is not None else wanted, None
        plan.num_beams, plan.num_return_sequences = 1, 1
        return plan

    def _room(self, width: int) -> int | None:
        longest = getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
        return None if self.twofold or not longest else int(longest) - width


def _padded(ids: Any, text: Any, place: Any, texts: int, padding: int) -> tuple[Any, Any]:
    """Return flat tokens as rows (texts, tokens), padded at the end, and where there is a token, int64."""
    width = int(place.max()) + 1 if len(place) else 1
    rows = ids.new_full((texts, width), padding)
    seen = torch.zeros_like(rows)
    rows[text, place], seen[text, place] = ids, 1
    return rows, seen


class Drawn(transformers.generation.BaseStreamer):  # type: ignore[misc]
    """The tokens as they are drawn: a queue between the thread that computes and the one that reads."""

    def __init__(self, settings: Mapping[str, Any], plan: Any, texts: int, ends: set[int]) -> None:
        own = {name: getattr(plan, name, None) for name in ("do_sample", "temperature", "top_k", "top_p")}
        plan.do_sample, plan.temperature, plan.top_k, plan.top_p = False, None, None, None
        self.sampler = Sampler(drawing(settings, own), texts)
        self.ends, self.over = ends, np.zeros(texts, bool)
        self.queue: queue.Queue[Any] = queue.Queue(maxsize=16)
        self.gone = threading.Event()
        self.prompt = True

    def choose(self, _ids: Any, scores: Any) -> Any:
        """Leave only the drawn token of each text in the scores."""
        tokens = torch.from_numpy(self.sampler.pick(scores.float().cpu().numpy())).to(scores.device)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)

    def left(self, ids: Any, _scores: Any) -> Any:
        """Say that every text is to end once nobody reads any more."""
        return torch.full((len(ids),), self.gone.is_set(), dtype=torch.bool, device=ids.device)

    def put(self, value: Any) -> None:
        """Take one step's tokens from transformers; the prompt comes first."""
        if self.prompt:
            self.prompt = False
            return
        tokens = value.reshape(-1).cpu().numpy().astype(np.int64)
        self.over |= np.isin(tokens, list(self.ends))
        self.hand({"tokens": torch.from_numpy(np.where(self.over, -1, tokens))})

    def end(self) -> None:
        """Do nothing: `_work` says when it is over, whatever the reason."""

    def hand(self, step: Any) -> None:
        """Hand one step over, unless the reader has gone away."""
        while not self.gone.is_set():
            with contextlib.suppress(queue.Full):
                return self.queue.put(step, timeout=WAIT)
        return None

    def steps(self) -> Iterator[dict[str, Any]]:
        """Yield the steps until there are no more."""
        while (step := self.queue.get()) is not None:
            if isinstance(step, torch.OutOfMemoryError):
                raise ResourceError("There is not enough memory for so long a text.") from step
            if isinstance(step, Exception):
                raise step
            yield step


def _numbers(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(each) for each in (value if isinstance(value, (list, tuple)) else [value])]
