"""What is traced of a Whisper that writes, and how its graph writes (`formats/_openvino_torch.py`).

The graph has two parts that share nothing: the encoder makes keys and values of what it hears, the decoder reads those
and the text so far. A request gives one of them rows and the other none, whose operations OpenVINO passes over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.files import read_json
from headstart.core.registry import require
from headstart.formats import _whisper
from headstart.formats._openvino import ov
from headstart.formats._openvino_spectra import is_whisper, window
from headstart.formats._openvino_writing import causal, keep_read

TRACED = (2, 5, 3)
"""Texts, tokens, and tokens before them that it is traced with."""
COMPARED = (3, 4)
"""Recordings whose texts it is compared with, and tokens of each."""
SETTINGS = "generation_config.json"


def concerns(network: Network) -> bool:
    """Return whether it is a Whisper that writes down speech."""
    return is_whisper(network) and network.use == "transcribe"


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    if not (network.folder / SETTINGS).is_file():
        return f"it has no {SETTINGS}, which says how it is asked for a text"
    return _whisper.unsupported(read_json(network.folder / SETTINGS, HubError))


def _layout(network: Network) -> tuple[int, int, int]:
    """Return how many keys and values the decoder's layers keep of each of both, their heads, and their width."""
    heads = int(network.config["decoder_attention_heads"])
    return 2 * int(network.config["decoder_layers"]), heads, int(network.config["d_model"]) // heads


def examples(network: Network) -> list[Arrays]:
    """Return spectra of noise, each with tokens by chance."""
    rng, (bands, frames) = np.random.default_rng(0), window(network)
    most = min(COMPARED[1], int(network.config["max_target_positions"]))
    return [
        {
            "mel": rng.uniform(-1, 1, (1, bands, frames)).astype(np.float32),
            "lengths": np.array([frames * int(network.preprocessing.get("hop_length", 160))]),
            "ids": rng.integers(0, int(network.config["vocab_size"]), (1, most)),
        }
        for _ in range(COMPARED[0])
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: what `shapes` says, in its order."""
    (texts, tokens, before), (count, heads, width) = TRACED, _layout(network)
    rng, (bands, frames) = np.random.default_rng(0), window(network)

    def noise(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    ids = np.arange(texts * tokens).reshape(texts, tokens) % int(network.config["vocab_size"])
    position = np.tile(np.arange(before, before + tokens), (texts, 1))
    mask = causal(np.ones((texts, before + tokens), bool), before)
    heard = [noise(texts, heads, frames // 2, width) for _ in range(count)]
    past = [noise(texts, heads, before, width) for _ in range(count)]
    return (noise(texts, bands, frames), ids, position, mask, np.zeros((texts, 1), np.int64), *heard, *past)


def values(built: Any, *given: Any) -> Any:
    """Return scores of the wanted tokens' successors, keys and values of the text, and those of what was heard."""
    return built.onwards(*given)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of spectra, ids, positions, mask, wanted places; keys and values of both kinds in turns."""
    (count, heads, width), (bands, frames) = _layout(network), window(network)
    plain = [[-1, bands, frames], [-1, -1], [-1, -1], [-1, 1, -1, -1], [-1, -1]]
    heard, past = [[-1, heads, frames // 2, width]] * count, [[-1, heads, -1, width]] * count
    return [ov.PartialShape(each) for each in [*plain, *heard, *past]]


def finished(graph: Any) -> Any:
    """Return the graph with keys and values of the text as its state."""
    count = (len(graph.inputs) - 5) // 2
    for name, each in zip(("mel", "ids", "position", "mask", "wanted"), graph.inputs, strict=False):
        each.get_tensor().set_names({name})
    for number in range(count):
        graph.inputs[5 + number].get_tensor().set_names({f"heard.{number}"})
        graph.outputs[1 + count + number].get_tensor().set_names({f"made.{number}"})
    graph.outputs[0].get_tensor().set_names({"logits"})
    return keep_read(graph, graph.inputs[5 + count :], graph.outputs[1 : 1 + count])


def compared(own: Any, arrays: Arrays) -> dict[str, np.ndarray]:
    """Return what is compared: scores (tokens, vocabulary) of what follows each token, read one by one in the graph."""
    if isinstance(own, DictationSession):
        read = own.heard(arrays["mel"])()
        return {"logits": np.stack([read([each]) for each in arrays["ids"][0].tolist()])}
    torch = require("torch", "torch")
    with torch.inference_mode():
        mel, ids = (torch.from_numpy(arrays[name]) for name in ("mel", "ids"))
        return {"logits": own.built.module(mel, decoder_input_ids=ids).logits[0].numpy()}


@final
class DictationSession(Session):
    """A compiled Whisper: `mel` (1, bands, frames) in, and it writes."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.compiled, self.layout, self.window = compiled, _layout(network), window(network)
        self.rules = _whisper.Rules(read_json(network.folder / SETTINGS, HubError), network.config)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return nothing: such a network writes."""
        return {}

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield `tokens` (t,), `start` and `end` () in seconds, of each stretch of one window's text.

        Args:
            arrays: `mel` (1, bands, frames).
            settings: `language` (a code, or None for: find out), `timestamps`, and `max_tokens` (None: the network's).

        Raises:
            UsageError: it does not know the language.
        """
        mel = np.asarray(arrays["mel"], np.float32)
        for start, end, tokens in self.rules.segments(mel, settings, self.heard):
            yield {"tokens": tokens, "start": np.asarray(start), "end": np.asarray(end)}

    def heard(self, mel: np.ndarray) -> Any:
        """Listen to a window (1, bands, frames), and return what begins a text about it."""
        (count, heads, width), frames = self.layout, self.window[1]
        nothing = {f"heard.{number}": np.zeros((0, heads, frames // 2, width), np.float32) for number in range(count)}
        made = self._request(0).infer({"mel": np.ascontiguousarray(mel), **_read(0, 0, []), **nothing})
        held = {f"heard.{number}": np.array(made[f"made.{number}"]) for number in range(count)}
        silence = np.zeros((0, *self.window), np.float32)

        def begin() -> _whisper.Onwards:
            request, known = self._request(1), 0

            def onwards(tokens: Sequence[int]) -> np.ndarray:
                nonlocal known
                inputs = {"mel": silence, **_read(1, known, tokens), **held}
                known += len(tokens)
                scores = request.infer(inputs, share_inputs=True)["logits"]
                return np.array(scores[0, 0], np.float32)

            return onwards

        return begin

    def _request(self, texts: int) -> Any:
        """Return a request whose decoder has read nothing of so many texts."""
        request = self.compiled.create_infer_request()
        _, heads, width = self.layout
        for state in request.query_state():
            state.state = ov.Tensor(np.zeros((texts, heads, 0, width), np.float32))
        return request


def _read(texts: int, before: int, tokens: Sequence[int]) -> dict[str, np.ndarray]:
    """Return what the decoder reads of texts of the same tokens; one where there are none, so that no axis is empty."""
    ids = np.tile(np.asarray(tokens or [0], np.int64), (texts, 1))
    position = np.tile(np.arange(before, before + ids.shape[1]), (texts, 1))
    mask = causal(np.ones((texts, before + ids.shape[1]), bool), before)
    wanted = np.full((texts, 1), ids.shape[1] - 1, np.int64)
    return {"ids": ids, "position": position, "mask": mask, "wanted": wanted}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return DictationSession(compiled, network)
