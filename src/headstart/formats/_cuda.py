"""PyTorch on a GPU: half precision, passes recorded as CUDA graphs, and the size of batch that runs fastest.

Launching a small network's kernels one by one takes longer than the kernels do, so a pass is recorded the second time
that its shapes come, and replayed from then on (Nguyen and others 2021, "Accelerating PyTorch with CUDA Graphs").
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.registry import require

torch = require("torch", "torch")

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
MOST_GRAPHS = 48
"""Recorded passes that are kept; the least recently used go first."""
TOKENS = (8_192, 16_384, 32_768, 65_536, 131_072, 262_144)
PICTURES = (16, 32, 64, 128, 256)
EVEN = 0.95
"""A smaller batch is taken where it does this share of what the best one does."""
TIMED, SHORT = 3, 32
"""Runs that a size is timed by, and tokens of a text in them."""
LIBRARIES = ("timm", "torchhub", "torchvision", "transformers")
Tensors = Mapping[str, Any]


def halved(network: Network) -> bool:
    """Return whether a network runs in half precision: transformers' texts, and pictures' vectors and classes.

    Sound and boxes stay in float32: nothing here has measured what they lose.
    """
    if network.backbone.modality == "text":
        return network.library == "transformers"
    return (
        network.backbone.modality == "image" and network.library in LIBRARIES and network.use in ("embed", "classify")
    )


@final
class Recorded:
    """A function of tensors on the GPU that is recorded once for each shape.

    Args:
        call: takes named tensors, and numbers that decide about its shapes; returns named tensors. It must not wait for
            the GPU. What it returns is overwritten by the next call of the same shapes.
    """

    def __init__(self, call: Callable[..., Tensors]) -> None:
        self.call, self.able = call, True
        self._seen: set[Any] = set()
        self._graphs: OrderedDict[Any, tuple[Any, Tensors, Tensors]] = OrderedDict()
        self._pool: Any = None

    def __call__(self, given: Tensors, *numbers: int) -> Tensors:
        """Return what `call` returns."""
        key = (*((name, tuple(each.shape), each.dtype) for name, each in given.items()), *numbers)
        if key in self._graphs:
            self._graphs.move_to_end(key)
            graph, inputs, outputs = self._graphs[key]
            for name, each in given.items():
                inputs[name].copy_(each)
            graph.replay()
            return outputs
        # What is recorded would hold no gradients, and a shape that comes once is not worth it.
        if not self.able or key not in self._seen or not torch.is_inference_mode_enabled():
            self._seen.add(key)
            return self.call(given, *numbers)
        try:
            return self._record(key, given, numbers)
        except torch.OutOfMemoryError:
            self._graphs.clear()
            torch.cuda.empty_cache()
        except RuntimeError:  # Some networks wait for the GPU within a pass: they cannot be recorded.
            self._graphs.pop(key, None)
            self.able = False
        return self.call(given, *numbers)

    def _record(self, key: Any, given: Tensors, numbers: Sequence[int]) -> Tensors:
        inputs = {name: each.clone() for name, each in given.items()}
        # Libraries set themselves up for a stream when they are first called on it, which cannot be recorded.
        apart = torch.cuda.Stream()
        apart.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(apart):
            self.call(inputs, *numbers)
        torch.cuda.current_stream().wait_stream(apart)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = self.call(inputs, *numbers)
        graph.replay()
        self._graphs[key] = (graph, inputs, outputs)
        if len(self._graphs) > MOST_GRAPHS:
            self._graphs.popitem(last=False)
        return outputs


def fastest(seconds: Callable[[int], float], sizes: Sequence[int]) -> int:
    """Return the smallest size whose work a second is about the best.

    Args:
        seconds: of a run of so much work; raises `torch.OutOfMemoryError` where it does not fit.
        sizes: growing.
    """
    rates: dict[int, float] = {}
    for size in sizes:
        try:
            rates[size] = size / seconds(size)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    most = max(rates.values(), default=0.0)
    return next((size for size, rate in rates.items() if rate >= EVEN * most), sizes[0])


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call on the GPU, the best of a few after two that record it."""
    taken = []
    for number in range(TIMED + 2):
        torch.cuda.synchronize()
        before = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if number > 1:
            taken.append(time.perf_counter() - before)
    return min(taken)


def peak(precision: str, side: int = 8192) -> float:
    """Return the operations a second of a large matrix product in a precision on this GPU."""
    left, right = (torch.randn(side, side, device="cuda", dtype=DTYPES[precision]) for _ in range(2))
    return 2 * side**3 / timed(lambda: left @ right)


@final
class Pictures:
    """A network that reads `pixels` (n, 3, height, width) in batches of the size that the GPU runs fastest.

    Args:
        built: what `formats/_<library>.py` built, its weights in `dtype` on the GPU.
    """

    def __init__(self, built: Any, dtype: Any) -> None:
        built.module.to(memory_format=torch.channels_last)
        self.dtype, self.size = dtype, 0
        self.run_once = Recorded(built.run)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the network's outputs."""
        pixels = torch.from_numpy(np.ascontiguousarray(arrays["pixels"]))
        # A few pictures tell nothing about the best size of a batch.
        if not self.size and len(pixels) >= PICTURES[0]:
            self.size = fastest(lambda count: self._seconds(pixels, count), PICTURES)
        size = self.size or PICTURES[0]
        parts: list[dict[str, Any]] = []
        for some in pixels.split(size):
            found = self.run_once({"pixels": self._placed(some)})
            parts.append({name: each.float().clone() for name, each in found.items()})
        return {name: torch.cat([each[name] for each in parts]).cpu().numpy() for name in parts[0]}

    def _placed(self, pixels: Any) -> Any:
        return pixels.cuda().to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _seconds(self, pixels: Any, count: int) -> float:
        given = {"pixels": self._placed(pixels[torch.arange(count) % len(pixels)])}
        return timed(lambda: self.run_once(given))


@final
class Texts:
    """A text encoder that reads texts one behind the other, without padding, in batches of about so many tokens.

    Args:
        flat: what `formats/_transformers_flat.py` made of the network.
    """

    def __init__(self, flat: Any) -> None:
        self.flat, self.size = flat, 0
        self.run_once = Recorded(flat.vectors)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width); each text has at least one token."""
        lengths = np.asarray(arrays["lengths"], np.int64)
        ends = np.cumsum(lengths)
        ids = torch.from_numpy(np.asarray(arrays["ids"], np.int64)).cuda()
        places = np.arange(len(ids)) - np.repeat(ends - lengths, lengths)
        positions = torch.from_numpy(places + self.flat.first).cuda()
        if not self.size and len(ids) > TOKENS[0]:
            self.size = fastest(self._seconds, TOKENS)
        found = torch.empty(len(lengths), self.flat.width, device="cuda")
        for first, last in cuts(ends, self.size or TOKENS[0]):
            start = int(ends[first - 1]) if first else 0
            given, longest = self._given(ids, positions, ends[first:last] - start, start, lengths[first:last])
            found[first:last] = self.run_once(given, longest)["embedding"][: last - first]
        return {"embedding": found.cpu().numpy()}

    def _given(
        self, ids: Any, positions: Any, ends: np.ndarray, start: int, lengths: np.ndarray
    ) -> tuple[Tensors, int]:
        """Return some texts as `flat` reads them, filled up so that few shapes occur, and the tokens of the longest."""
        tokens, room = int(ends[-1]), rounded(int(ends[-1]), 64)
        edges = np.full(rounded(len(ends), 8) + 1, tokens, np.int32)
        edges[0], edges[1 : len(ends) + 1] = 0, ends
        filled = {
            name: torch.nn.functional.pad(each[start : start + tokens], (0, room - tokens))[None]
            for name, each in (("ids", ids), ("positions", positions))
        }
        longest = 1 << max(4, int(lengths.max() - 1).bit_length())
        return {**filled, "edges": torch.from_numpy(edges).cuda()}, longest

    def _seconds(self, tokens: int) -> float:
        lengths = np.full(tokens // SHORT, SHORT)
        ids = torch.ones(tokens, dtype=torch.long, device="cuda")
        positions = torch.arange(SHORT, device="cuda").repeat(len(lengths)) + self.flat.first
        given, longest = self._given(ids, positions, np.cumsum(lengths), 0, lengths)
        return timed(lambda: self.run_once(given, longest))


def cuts(ends: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    """Yield the first and one behind the last text of batches of at most `budget` tokens; a longer text is one alone.

    Args:
        ends: (n,) tokens up to and with each text.
    """
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + budget, side="right")))
        yield first, last
        first = last


def rounded(count: int, least: int) -> int:
    """Return the next of 4, 5, 6, 7 times a power of two that is not below `count`: an eighth is wasted on average."""
    if count <= least:
        return least
    step = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // step) * step


class Gpu:
    """How a built network runs on the GPU: one at a time, in a precision, recorded where that is known to work.

    Args:
        built: what `formats/_<library>.py` built.
        precision: a name of `DTYPES`.
    """

    def __init__(self, built: Any, network: Network, precision: str) -> None:
        self.dtype = DTYPES[precision]
        self.fast: Texts | Pictures | None = None
        self._lock = threading.Lock()
        built.module.eval().to("cuda", self.dtype)
        if halved(network):
            # The attention that pads nothing computes in halves only.
            whole = network.use != "embed" or not hasattr(built, "flat") or self.dtype == torch.float32
            flat = None if whole else built.flat()
            if network.backbone.modality == "image":
                self.fast = Pictures(built, self.dtype)
            elif flat is not None:
                self.fast = Texts(flat)

    def plainly(self) -> None:
        """Run in the smallest batches, nothing recorded: what is replayed cannot be counted."""
        if self.fast is not None:
            self.fast.run_once.able = False
            self.fast.size = (PICTURES if isinstance(self.fast, Pictures) else TOKENS)[0]

    def run(self, arrays: Arrays) -> dict[str, np.ndarray] | None:
        """Return the network's outputs, or None where these rows are to be run as on the CPU."""
        empty = "lengths" in arrays and (not len(arrays["lengths"]) or not np.min(arrays["lengths"]))
        if self.fast is None or empty:
            return None
        with self._lock, torch.inference_mode():
            return self.fast.run(arrays)
