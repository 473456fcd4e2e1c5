"""Say which words fit where a text is masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from tokenizers import Encoding, Tokenizer

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import DataError, HubError
from headstart.core.pipeline import Pipeline
from headstart.pipelines._classes import how_many
from headstart.pipelines._inputs import softmax
from headstart.pipelines._text import OVERLAP, arrays_of, best_seen, encode, limit, plain, reader, special, windows

KNOWN = ("[MASK]", "<mask>")
"""How masks are written by tokenizers whose files do not say."""
AT_ONCE = 16


@final
class FillMask(Pipeline):
    """The likeliest tokens at each mask, with their probabilities and the filled sentence."""

    options: Mapping[str, Any] = {"top": 5}

    def supports(self, network: Network) -> str:
        """Return why the network fills no masks."""
        return "" if "fill_mask" in network.backbone.uses else "it was not trained to fill masks"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `text` (every mask filled with its best token) and `token`, `score` and `top` of the first mask.

        A text with several masks also has `masks`, one such entry for each.

        Raises:
            DataError: a text has no mask.
        """
        mask = mask_of(network)
        texts = [plain(each) for each in inputs]
        for text in texts:
            if mask not in text:
                raise DataError(
                    f"'{text[:80]}' has no mask.",
                    allowed=f"This model's mask is written {mask}.",
                    hint=f'For example: "The goal of AI is to {mask} human intelligence."',
                )
        records: list[dict[str, Any]] = []
        for start in range(0, len(texts), AT_ONCE):
            records += _filled(network, session, texts[start : start + AT_ONCE], mask, how_many(options["top"]))
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each token, mask by mask."""
        if "masks" not in record:
            return "\n".join(f"{each['score']:8.2%}  {each['token']:<16} {each['text']}" for each in record["top"])
        parts = ["\n".join(f"{each['score']:8.2%}  {each['token']}" for each in one["top"]) for one in record["masks"]]
        return "\n\n".join([*parts, record["text"]])


def mask_of(network: Network) -> str:
    """Return how the network's mask is written.

    Raises:
        HubError: its tokenizer has none.
    """
    tokenizer = reader(network)
    for name in (special(network).get("mask_token", ""), *KNOWN):
        if name and tokenizer.token_to_id(name) is not None:
            return name
    raise HubError(f"The tokenizer of '{network.backbone.reference}' has no mask token.")


def _filled(network: Network, session: Session, texts: Sequence[str], mask: str, top: int) -> list[dict[str, Any]]:
    overlap = limit(network) // OVERLAP
    tokenizer = reader(network, "longest_first", overlap)
    number = tokenizer.token_to_id(mask)
    flat: list[Encoding] = []
    asked: list[tuple[int, int, int, tuple[int, int]]] = []  # text, encoding, place, characters
    for row, encoding in enumerate(encode(tokenizer, texts)):
        parts = windows(encoding, overlap)
        seen = best_seen(parts)
        masks = [(window, place) for window, place in seen if parts[window].encoding.ids[place] == number]
        at = {window: len(flat) + place for place, window in enumerate(dict.fromkeys(each for each, _ in masks))}
        flat += [parts[window].encoding for window in at]
        asked += [(row, at[window], place, parts[window].encoding.offsets[place]) for window, place in masks]
    starts = np.cumsum([0, *(len(each.ids) for each in flat)])
    positions = np.array([starts[window] + place for _, window, place, _ in asked], np.int32)
    shares = softmax(session.run({**arrays_of(flat), "positions": positions})["logits"].astype(np.float64))
    records = []
    for row, text in enumerate(texts):
        mine = [each for each, (of, *_) in enumerate(asked) if of == row]
        spans = [asked[each][3] for each in mine]
        records.append(_record(tokenizer, text, spans, [_likeliest(tokenizer, shares[each], top) for each in mine]))
    return records


def _likeliest(tokenizer: Tokenizer, shares: np.ndarray, top: int) -> list[dict[str, Any]]:
    order = np.argsort(-shares, kind="stable")
    # A head may be wider than the vocabulary, rounded up for speed: such numbers stand for nothing.
    best = order[order < tokenizer.get_vocab_size()][: max(1, top)]
    words = [tokenizer.decode([int(each)], skip_special_tokens=False) for each in best]
    return [
        {"token": word, "id": int(each), "score": float(shares[each])} for word, each in zip(words, best, strict=True)
    ]


def _record(
    tokenizer: Tokenizer, text: str, spans: Sequence[tuple[int, int]], found: Sequence[list[dict[str, Any]]]
) -> dict[str, Any]:
    masks = []
    for number, candidates in enumerate(found):
        top = []
        for each in candidates:
            ids = [each["id"] if other == number else best[0]["id"] for other, best in enumerate(found)]
            shown = {"token": each["token"].strip() or each["token"], "score": round(each["score"], 6)}
            top.append({**shown, "text": _with(tokenizer, text, spans, ids)})
        masks.append({**top[0], "top": top})
    record = {"text": masks[0]["text"], "token": masks[0]["token"], "score": masks[0]["score"], "top": masks[0]["top"]}
    return record if len(masks) == 1 else {**record, "masks": masks}


def _with(tokenizer: Tokenizer, text: str, spans: Sequence[tuple[int, int]], ids: Sequence[int]) -> str:
    """Return the text with a token in the place of each mask; a word's later part is joined to what stands before."""
    written, end = "", 0
    for (start, stop), number in zip(spans, ids, strict=True):
        token = tokenizer.decode([number], skip_special_tokens=False)
        written += text[end:start]
        gap = text[start:stop][: len(text[start:stop]) - len(text[start:stop].lstrip())]
        if _continues(tokenizer, number):
            written, gap = written.rstrip(), ""
        written += gap + token.strip().removeprefix("##")
        end = stop
    return written + text[end:]


def _continues(tokenizer: Tokenizer, number: int) -> bool:
    """Return whether a token is the later part of a word, such as `##ing`, or `ing` where `Ġing` begins one."""
    raw = tokenizer.id_to_token(number) or ""
    if raw.startswith("##"):
        return True
    spaced = tokenizer.id_to_token(tokenizer.encode(" a a", add_special_tokens=False).ids[-1]) or ""
    return spaced[:1] in ("Ġ", "▁") and raw[:1] != spaced[:1]
