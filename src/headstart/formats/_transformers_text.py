"""Text networks of the transformers library.

Texts come flat, without padding; they are sorted by length and padded in batches of about as many tokens each, and the
results come back in the order of the inputs.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed
from headstart.formats._pairs import pairs_loss
from headstart.formats._transformers import config_of, load, torch, transformers
from headstart.formats._transformers_rows import logits_at, scores_at
from headstart.formats._transformers_writing import Writer

CLASSES = {
    "embed": "AutoModel",
    "classify": "AutoModelForSequenceClassification",
    "zero_shot": "AutoModelForSequenceClassification",
    "fill_mask": "AutoModelForMaskedLM",
    "tag_tokens": "AutoModelForTokenClassification",
    "answer": "AutoModelForQuestionAnswering",
    "generate": "AutoModelForCausalLM",
}
"""Which class of transformers each use needs."""
BUDGET = {"cpu": 4096, "cuda": 32_768}
"""Tokens of one batch, padding included."""
IGNORED = -100
"""What stands in `answers` where no token is hidden."""
Tensors = Mapping[str, Any]


def unsupported(network: Network) -> str:
    """Return an empty string, or why a text network cannot be used so."""
    return "" if network.use in CLASSES else f"text networks do {listed(CLASSES)}, not '{network.use}'"


def build(network: Network) -> TextNetwork | Writer:
    """Return the network with the head that its use needs.

    Raises:
        HubError: its checkpoint has no such head.
        UsageError: text networks are not used so.
    """
    if network.use not in CLASSES:
        raise UsageError(f"A text network cannot {network.use}.", allowed=f"It can: {listed(CLASSES)}.")
    config = config_of(network)
    twofold = bool(getattr(config, "is_encoder_decoder", False))
    if network.use == "generate":
        auto = transformers.AutoModelForSeq2SeqLM if twofold else transformers.AutoModelForCausalLM
        return Writer(load(network, auto, config=config))
    if network.use == "embed":
        return TextNetwork(network, _encoder(network, config, twofold))
    return TextNetwork(network, load(network, getattr(transformers, CLASSES[network.use]), config=config))


def _encoder(network: Network, config: Any, twofold: bool) -> Any:
    """Return what gives `last_hidden_state`; a pooling layer behind it may be missing, for it is not used."""
    if twofold and type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return load(network, transformers.AutoModelForTextEncoding, config=config)
    model = load(network, transformers.AutoModel, config=config, needless=("pooler.", "pooling."))
    return model.get_encoder() if twofold else model


class TextNetwork:
    """A network that reads whole texts: `ids`, `lengths` and, where it needs them, `types` and `positions`.

    Args:
        network: the model on disk; its use decides what `run` gives.
        module: the model, with its head.
    """

    def __init__(self, network: Network, module: Any) -> None:
        self.network, self.module, self.use, self.pooling = network, module, network.use, network.pooling
        self.reads_types = "token_type_ids" in inspect.signature(module.forward).parameters
        self.kinds = getattr(module.config, "type_vocab_size", None)
        self.pad = getattr(module.config, "pad_token_id", None)
        self.alone = threading.Lock()

    def run(self, given: Tensors) -> dict[str, Any]:
        """Return what `core/pipeline.py` lists for the use, in the order of the inputs."""
        with self.alone:  # a hook, or a padding token, is set on the module for each run
            return self._run(given)

    def _run(self, given: Tensors) -> dict[str, Any]:
        if self.use == "fill_mask":
            return {"logits": self._at_positions(given)}
        if self.use == "tag_tokens":
            return self._each_token(given, ["logits"])
        if self.use == "answer":
            found = self._each_token(given, ["start_logits", "end_logits"])
            return {"start": found["start_logits"], "end": found["end_logits"]}
        name, read = ("embedding", self._pooled) if self.use == "embed" else ("logits", self._logits)
        return {name: self._each_text(given, read)}

    def beside(self, ids: Any, mask: Any, kinds: Any, wanted: Any = None) -> Any:
        """Return what the use asks for of texts side by side, before it is pooled or put in the order of flat tokens.

        Args:
            ids, mask, kinds: (n, tokens) of tokens, where there are any, and of their kinds.
            wanted: (n, k) places whose hidden words are asked for.
        """
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.reads_types and (self.kinds is None or self.kinds > 1):
            inputs["token_type_ids"] = kinds
        if wanted is not None:
            return logits_at(self.module, inputs, wanted)
        output = self.module(**inputs)
        if self.use == "answer":
            return output.start_logits, output.end_logits
        return output.last_hidden_state if self.use == "embed" else output.logits

    def flat(self) -> Any:
        """Return what reads texts without padding, on a GPU; None where the network cannot."""
        from headstart.formats import _transformers_flat

        return (
            None if _transformers_flat.unsupported(self.module) else _transformers_flat.Flat(self.network, self.module)
        )

    def loss(self, given: Tensors) -> Any:
        """Return the mean () of how unlikely the hidden tokens are, in nats; of pairs of texts what `_pairs` says.

        Args:
            given: what `run` reads, and `answers` (flat), beside ids: the hidden token, or -100; of pairs `first`,
                `second` and `grades`.

        Raises:
            UsageError: the network is opened neither to fill masks nor to embed.
        """
        if self.use == "embed":
            return pairs_loss(self.run(given)["embedding"], given)
        if self.use != "fill_mask":
            raise UsageError(f"A text network that is to {self.use} has no loss of its own.")
        answers = given["answers"].long()
        total: Any = 0.0
        with self.alone:
            for batch in self._batches(given):
                wanted = batch.real & (answers[batch.flat] != IGNORED)
                logits = scores_at(self.module, batch.inputs, wanted).float()
                gold = answers[batch.flat[wanted]]
                total = total + torch.nn.functional.cross_entropy(logits, gold, reduction="sum")
        return total / (answers != IGNORED).sum().clamp(min=1)

    def hidden(self, given: Tensors) -> Any:
        """Return the last layer's vectors (tokens, width) of the flat ids, of a network that is opened to embed."""
        with self.alone:
            return self._each_token(given, ["last_hidden_state"])["last_hidden_state"]

    def _each_text(self, given: Tensors, read: Callable[[Batch], Any]) -> Any:
        result: Any = None
        for batch in self._batches(given):
            values = read(batch)
            if result is None:
                result = values.new_zeros(len(given["lengths"]), values.shape[-1])
            result[batch.texts] = values
        return result

    def _logits(self, batch: Batch) -> Any:
        return self.module(**batch.inputs).logits.float()

    def _pooled(self, batch: Batch) -> Any:
        hidden = self.module(**batch.inputs).last_hidden_state.float()
        mode, mask = self.pooling.get("mode", "mean"), batch.inputs["attention_mask"].unsqueeze(-1)
        if mode == "cls":
            vectors = hidden[:, 0]
        elif mode == "max":
            vectors = hidden.masked_fill(mask == 0, float("-inf")).amax(1)
        elif mode == "mean":
            vectors = (hidden * mask).sum(1) / mask.sum(1)
        else:
            raise HubError(f"There is no pooling '{mode}'.", allowed="Poolings: 'mean', 'cls', 'max'.")
        return torch.nn.functional.normalize(vectors, dim=1) if self.pooling.get("normalize") else vectors

    def _each_token(self, given: Tensors, names: list[str]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for batch in self._batches(given):
            output = self.module(**batch.inputs)
            for name in names:
                values = output[name].float()
                if name not in result:
                    result[name] = values.new_zeros(len(given["ids"]), *values.shape[2:])
                result[name][batch.flat[batch.real]] = values[batch.real]
        return result

    def _at_positions(self, given: Tensors) -> Any:
        slots = torch.full_like(given["ids"], -1, dtype=torch.long)
        slots[given["positions"].long()] = torch.arange(len(given["positions"]), device=slots.device)
        result: Any = None
        for batch in self._batches(given):
            wanted = batch.real & (slots[batch.flat] >= 0)
            if not wanted.any():
                continue
            logits = scores_at(self.module, batch.inputs, wanted).float()
            if result is None:
                result = logits.new_zeros(len(given["positions"]), logits.shape[-1])
            result[slots[batch.flat[wanted]]] = logits
        return result

    def _batches(self, given: Tensors) -> Iterator[Batch]:
        ids, lengths = given["ids"].long(), given["lengths"].long()
        types = given["types"].long() if "types" in given and self._wants(given["types"]) else None
        starts = lengths.cumsum(0) - lengths
        order = torch.argsort(lengths, descending=True, stable=True)
        widths, at = lengths[order].clamp(min=1).tolist(), 0
        while at < len(widths):
            count = max(1, BUDGET.get(ids.device.type, BUDGET["cpu"]) // widths[at])
            texts = order[at : at + count]
            yield self._batch(texts, starts[texts], lengths[texts], widths[at], ids, types)
            at += count

    def _wants(self, types: Any) -> bool:
        return self.reads_types and (self.kinds is None or self.kinds > int(types.max() if len(types) else 0))

    def _batch(self, texts: Any, starts: Any, lengths: Any, width: int, ids: Any, types: Any) -> Batch:
        place = torch.arange(width, device=ids.device)
        real = place < lengths[:, None]
        flat = torch.where(real, starts[:, None] + place, 0)
        padded = (
            torch.where(real, ids[flat], self._padding(ids)) if len(ids) else torch.full_like(flat, self._padding(ids))
        )
        seen = real.clone()
        seen[:, 0] = True  # A text without any token is read as one padding token.
        inputs = {"input_ids": padded, "attention_mask": seen.long()}
        if types is not None:
            inputs["token_type_ids"] = torch.where(real, types[flat], 0)
        return Batch(texts, flat, real, inputs)

    def _padding(self, ids: Any) -> int:
        """Return what stands behind a text.

        Decoders that classify read the last token that is not padding, so where the network names no padding token, one
        is taken that no text holds.
        """
        if self.pad is not None and self.pad >= 0:
            return int(self.pad)
        used = set(ids.unique().tolist())
        free = next((each for each in range(len(used) + 1) if each not in used), 0)
        self.module.config.pad_token_id = free
        return free


class Batch:
    """Some texts side by side, padded at the end.

    Args:
        texts: (b,) which texts they are.
        flat: (b, tokens) where each token stands in the flat ids.
        real: (b, tokens) whether there is a token.
        inputs: what the module reads.
    """

    def __init__(self, texts: Any, flat: Any, real: Any, inputs: dict[str, Any]) -> None:
        self.texts, self.flat, self.real, self.inputs = texts, flat, real, inputs
