"""Recordings: from files, bytes and arrays to mono samples at the rate that a network asks for.

A network's `preprocessing` for audio has transformers' own names, all optional:

```
sampling_rate            samples per second (16000)
do_normalize             whether each recording is brought to mean 0 and variance 1 (true)
feature_extractor_type   WhisperFeatureExtractor: the network reads log-mel spectra, with
feature_size             … this many bands (80),
n_fft, hop_length        … of windows of so many samples (400), so many apart (160),
chunk_length             … of so many seconds, no more and no less (30)
```
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.blob import Blob, content
from headstart.core.dataset import is_blank
from headstart.core.errors import DataError
from headstart.core.registry import require
from headstart.modalities import _spectra

RATE = 16_000
LONGEST = 60
"""Seconds of a recording that are made into one vector; bounded, because attention costs their square."""
BLOCK = 1 << 16
"""Samples decoded at a time."""
UNKNOWN = 0x7FFFFF00
"""From here on a header's size means: written before it was known."""
KINDS = "wav, flac, mp3, ogg and aiff files can be read."


def sampling_rate(preprocessing: Mapping[str, Any]) -> int:
    """Return the samples per second that a network reads."""
    return int(preprocessing.get("sampling_rate", RATE))


def reads_spectra(preprocessing: Mapping[str, Any]) -> bool:
    """Return whether a network reads log-mel spectra, not samples."""
    return str(preprocessing.get("feature_extractor_type", "")).startswith("Whisper")


def decode(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Return a file's samples, (n,) float32 from -1 to 1, channels averaged, and its rate.

    Raises:
        DataError: it is no recording, is cut short, or holds no sound or sound that is not a number.
    """
    with _opened(data, name) as file:
        return np.concatenate(list(_blocks(file, name))), int(file.samplerate)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return samples at another rate, with nothing folded back from above half of it."""
    if rate == wanted:
        return samples
    return np.asarray(require("soxr", "audio").resample(samples, rate, wanted), np.float32)


def pieces(cell: Any, wanted: int) -> Iterator[np.ndarray]:
    """Yield a recording's samples at the wanted rate, bit by bit, in constant memory.

    Args:
        cell: a Blob, bytes, a data: URL, or `{"samples": (n,) or (n, channels), "rate": …}`.

    Raises:
        DataError: it cannot be read.
    """
    if is_blank(cell):
        raise DataError("A row has no recording.", hint="Leave rows without a recording out.")
    if isinstance(cell, Mapping) and ("samples" in cell or "array" in cell):
        yield resample(*from_array(cell), wanted)
        return
    name = cell.name if isinstance(cell, Blob) else "a recording"
    with _opened(content(cell), name) as file:
        if file.samplerate == wanted:
            yield from _blocks(file, name)
            return
        stream = require("soxr", "audio").ResampleStream(file.samplerate, wanted, 1, dtype="float32")
        for block in _blocks(file, name):
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def recording(cell: Any, wanted: int, longest: float = 0.0) -> np.ndarray:
    """Return a recording's samples (n,) float32 at the wanted rate; no more than `longest` seconds where that is set.

    Raises:
        DataError: it cannot be read.
    """
    most, parts, length = int(longest * wanted), [], 0
    for piece in pieces(cell, wanted):
        parts.append(piece)
        length += len(piece)
        if most and length >= most:
            break
    whole = np.concatenate(parts)
    return whole[:most] if most else whole


def live(chunks: Iterable[Any], wanted: int) -> Iterator[np.ndarray]:
    """Yield the samples of a stream, such as a microphone's, as its chunks come.

    Args:
        chunks: samples (n,) at the wanted rate, or `{"samples": …, "rate": …}` all of one rate.

    Raises:
        DataError: a chunk is no sound.
    """
    stream = None
    for chunk in chunks:
        samples, rate = from_array(chunk if isinstance(chunk, Mapping) else {"samples": chunk, "rate": wanted})
        if rate != wanted:
            stream = stream or require("soxr", "audio").ResampleStream(rate, wanted, 1, dtype="float32")
            samples = stream.resample_chunk(samples)
        yield samples
    if stream:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def from_array(cell: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Return the samples (n,) float32 and the rate of a recording given as an array.

    Raises:
        DataError: it has no rate, or no samples, or some that are not numbers.
    """
    given = np.asarray(cell["samples"] if "samples" in cell else cell["array"])
    rate = cell.get("rate", cell.get("sampling_rate"))
    if not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise DataError(
            f"A recording's rate is {rate!r}.", allowed='A recording is {"samples": array, "rate": samples per second}.'
        )
    if given.ndim not in (1, 2) or given.dtype.kind not in "fiu":
        raise DataError(
            f"A recording's samples have shape {given.shape} and type {given.dtype}.",
            allowed="Samples are numbers, (n,) or (n, channels).",
        )
    if given.dtype.kind in "iu":
        middle = (np.iinfo(given.dtype).max + 1) / 2 if given.dtype.kind == "u" else 0
        given = (given - middle) / (middle or np.iinfo(given.dtype).max + 1)
    mono = (given if given.ndim == 1 else given.mean(axis=1)).astype(np.float32)
    if not len(mono):
        raise DataError("A recording has no samples.")
    return _finite(mono, "a recording"), int(rate)


def encode(recordings: Sequence[np.ndarray], preprocessing: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return what a network reads: `samples` (flat), or `mel` (n, bands, frames) for Whisper; and `lengths` (n,).

    Args:
        recordings: samples (n,) each, at the network's rate.
    """
    if not recordings:
        return {"samples": np.zeros(0, np.float32), "lengths": np.zeros(0, np.int64)}
    if reads_spectra(preprocessing):
        lengths = np.array([len(each) for each in recordings], np.int64)
        return {"mel": np.stack([_spectra.log_mel(each, preprocessing) for each in recordings]), "lengths": lengths}
    if preprocessing.get("do_normalize", True):
        recordings = [(each - each.mean()) / np.sqrt(each.var() + 1e-7) for each in recordings]
    lengths = np.array([len(each) for each in recordings], np.int64)
    return {"samples": np.concatenate(recordings).astype(np.float32), "lengths": lengths}


def _opened(data: bytes, name: str) -> Any:
    soundfile = require("soundfile", "audio")
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        what = "is empty" if not data else "is not a recording, or is damaged"
        raise DataError(f"'{name}' {what}.", allowed=KINDS) from error
    sizes = re.search(r"data\s*: (\d+) \(should be (\d+)\)", file.extra_info)
    if sizes and int(sizes[1]) < UNKNOWN and int(sizes[2]) < 0.99 * int(sizes[1]):
        file.close()
        raise DataError(f"'{name}' is cut short: it holds {sizes[2]} of {sizes[1]} bytes of sound.")
    return file


def _blocks(file: Any, name: str) -> Iterator[np.ndarray]:
    soundfile = require("soundfile", "audio")
    length = 0
    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise DataError(f"'{name}' is damaged or cut short after {length / file.samplerate:.1f} s.") from error
        if not len(block):
            break
        length += len(block)
        yield _finite(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1), name)
    if not length:
        raise DataError(f"'{name}' holds no sound.")
    # An mp3 without an index only estimates its length.
    if file.frames < UNKNOWN and length < 0.9 * file.frames:
        raise DataError(f"'{name}' is cut short: it holds {length / file.frames:.0%} of its sound.")


def _finite(samples: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise DataError(f"'{name}' holds samples that are not numbers (NaN or infinite).")
    return samples
