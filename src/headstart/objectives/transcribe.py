"""Learn to write down speech, from recordings and what is said in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, final

from tokenizers import Tokenizer

from headstart.core.backbone import Network
from headstart.core.dataset import Dataset, as_text, is_blank, table_rows
from headstart.core.errors import DataError, HubError, UsageError, listed
from headstart.core.objective import Objective
from headstart.core.source import Table
from headstart.modalities import _samples
from headstart.objectives._recordings import Recordings
from headstart.objectives._wording import RULE, errors, plain
from headstart.pipelines import _ctc

NAMES = ("transcript", "transcription", "transcripts", "sentence", "text", "words", "said", "utterance", "label")
"""What a column of transcripts is called; the first that is there is taken."""
SPACE = "|"
ENOUGH = 0.995
"""Share of what is said that a network's own letters must be able to spell; else it learns letters of its own."""
LONGEST = 30.0
"""Seconds of the longest recording that is learnt from."""
SHORTEST = 0.02
"""Seconds that a letter takes at least; networks that spell have one frame in about so many."""
ROOM = 8
"""Tokens that Whisper needs besides those of a text."""


@final
@dataclass(frozen=True)
class Transcribe(Objective):
    """Recordings become text: by letters (CTC) or by tokens (Whisper). The measure is the word error rate, by jiwer.

    Words are compared in lower case and without punctuation, and networks that spell learn them so; Whisper learns
    transcripts as they are written. A network that spells keeps its letters where they do for what is said in training;
    else it gets a new last layer with the letters that occur.

    Args:
        heard: the column of recordings.
        said: the column of transcripts.
        letters: the letters of the training transcripts, sorted.
        counts: how often each occurs.
        beams: among how many beginnings networks that spell look for the likeliest letters, when they are judged and
            when they answer.
    """

    heard: str
    said: str
    letters: tuple[str, ...]
    counts: tuple[int, ...]
    beams: int = 1

    primary = "wer"
    higher = False
    defaults = MappingProxyType({"epochs": 40, "batch": 16, "rate": 2e-3, "decay": 1.0, "warmup": 0.1, "patience": 15})
    """What suits a small network that learns all from nothing; see `plan` for others."""

    @classmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> Transcribe:
        """Learn the letters of the training rows' transcripts. `columns` may say among how many `beams` is looked.

        Raises:
            DataError: there is no column of recordings, or of transcripts, or all of these are blank.
        """
        heard = columns.get("input") or _only(dataset)
        dataset.column(heard)
        said = columns.get("target") or next((each for each in dataset.targets if each != heard), "")
        said = said or next((name for name in NAMES if name in dataset.table), "")
        if not said:
            raise DataError(
                f"No column of {dataset.origin or 'the table'} says what the recordings say.",
                allowed=f"Columns: {listed(dataset.table)}. A column of transcripts is called {listed(NAMES[:4])}.",
                hint="Name it with --target COLUMN.",
            )
        cells = dataset.column(said)
        counted = Counter("".join(plain(as_text(cells[row])) for row in train))
        counted.pop(" ", None)
        if not counted:
            raise DataError(f"The column '{said}' holds no words.", hint="Name another one with --target.")
        letters = sorted(counted)
        beams = columns.get("beams", "1")
        if not beams.isdigit() or int(beams) < 1:
            raise UsageError(f"beams is '{beams}'.", allowed="It must be a whole number, at least 1.")
        return cls(heard, said, tuple(letters), tuple(counted[each] for each in letters), int(beams))

    @property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        """The pipeline's options for judging: Whisper writes the text alone."""
        return {"timestamps": False, **self.usual}

    @property
    def usual(self) -> dict[str, Any]:  # type: ignore[override]
        """The pipeline's options with which the tuned network answers."""
        return {"beams": self.beams} if self.beams > 1 else {}

    @property
    def columns(self) -> tuple[str, str]:
        """The column of recordings, and that of transcripts."""
        return self.heard, self.said

    def settings(self) -> dict[str, Any]:
        """Return the columns, the letters, and how words are compared."""
        return {
            "input": self.heard,
            "target": self.said,
            "letters": list(self.letters),
            "counts": list(self.counts),
            "beams": self.beams,
            "normalisation": dict(RULE),
        }

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> Transcribe:
        """Make the objective from its settings."""
        letters, counts = tuple(settings["letters"]), tuple(settings["counts"])
        return cls(settings["input"], settings["target"], letters, counts, settings.get("beams", 1))

    def unusable(self, table: Table, learning: bool = True) -> dict[int, str]:
        """Return the rows that nothing is learnt from, or judged by, with the reason.

        No transcript; a recording that cannot be read; for learning also one that is too long to know where its words
        are, or too short for them.
        """
        found = {}
        for row, (cell, text) in enumerate(zip(table[self.heard], table[self.said], strict=True)):
            said = plain(as_text(text))
            name = str(getattr(cell, "name", f"The recording of row {row + 1}"))
            if not said:
                found[row] = f"Row {row + 1} has no transcript."
                continue
            try:
                seconds = sum(len(piece) for piece in _samples.pieces(cell, _samples.RATE)) / _samples.RATE
            except DataError as error:
                found[row] = error.problem
                continue
            if not learning:
                continue
            if seconds > LONGEST:
                found[row] = f"'{name}' has {seconds:.0f} s; at most {LONGEST:g} s are learnt from in one piece."
            elif seconds < SHORTEST * len(said):
                found[row] = f"'{name}' has {seconds:.2f} s, in which nobody says {len(said)} letters."
        return found

    def ready(self, network: Network) -> dict[str, Any]:
        """Return the fields of the network that differ: its letters, where its own do not do, and its configuration.

        Raises:
            UsageError: it is no network that can learn to write down speech.
        """
        if network.backbone.modality != "audio":
            raise UsageError(
                f"'{network.backbone.reference}' reads {network.backbone.modality}, not recordings.",
                allowed="Wav2Vec2 and its kin, Whisper, and small networks from scratch.",
                hint="For example: --backbone builtin:ctc-small",
            )
        made: dict[str, Any] = {"use": "transcribe"}
        if _samples.reads_spectra(network.preprocessing) or self._does(network):
            return made
        letters = (_ctc.BLANK, SPACE, *self.letters)
        uses = tuple(dict.fromkeys(["transcribe", *network.backbone.uses]))
        backbone = replace(network.backbone, uses=uses)
        return made | {"labels": letters, "config": _config(network, letters), "backbone": backbone}

    def _does(self, network: Network) -> bool:
        """Return whether the network's own letters do."""
        try:
            known = _ctc.alphabet(network)
        except HubError:
            return False
        able = _numbers(known)
        spelt = sum(count for each, count in zip(self.letters, self.counts, strict=True) if _number(each, able))
        trained = "transcribe" in network.backbone.uses
        return trained and known.space in able and spelt >= ENOUGH * sum(self.counts)

    def unable(self, network: Network) -> str:
        """Return why nothing is compared with what the network writes before training; else an empty string."""
        return "it has not been trained yet" if network.weights.suffix == ".json" else super().unable(network)

    def plan(self, network: Network) -> dict[str, Any]:
        """Return the settings of a plan that suit a network."""
        if network.library == "ctc":
            return dict(self.defaults)
        if _samples.reads_spectra(network.preprocessing):
            return {"epochs": 5, "batch": 8, "rate": 1e-5, "decay": 1.0, "warmup": 0.1, "patience": 3}
        return {"epochs": 20, "batch": 8, "rate": 1e-4, "decay": 1.0, "warmup": 0.1, "patience": 8}

    def examples(self, network: Network, table: Table, seed: int) -> Recordings:
        """Return the recordings with the tokens of their transcripts.

        Raises:
            HubError: the network has neither letters nor a tokenizer.
        """
        cells, texts = table[self.heard], [as_text(each) for each in table[self.said]]
        if _samples.reads_spectra(network.preprocessing):
            return Recordings(cells, _written(network, texts), network.preprocessing, seed)
        known = _ctc.alphabet(network)
        able = _numbers(known)
        spelt = [_spelling(plain(text), able, known.space) for text in texts]
        return Recordings(cells, spelt, network.preprocessing, seed, partial(frame_count, network.config))

    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return `wer` and `cer` with 95 % intervals and the counts behind them, of the rows that have a transcript.

        Raises:
            MissingExtra: jiwer is not installed.
        """
        known = [row for row in range(table_rows(table)) if not is_blank(table[self.said][row])]
        said = [plain(as_text(table[self.said][row])) for row in known]
        return errors(said, [plain(str(records[row]["text"])) for row in known])


def _only(dataset: Dataset) -> str:
    columns = list(dataset.inputs.get("audio", ()))
    if len(columns) == 1:
        return columns[0]
    raise DataError(
        f"{len(columns) or 'No'} columns of {dataset.origin or 'the table'} hold recordings.",
        allowed=f"Columns: {listed(dataset.table)}.",
        hint="Name the one to listen to with --input COLUMN.",
    )


def frame_count(config: Mapping[str, Any], length: int) -> int:
    """Return how many frames a network that spells makes of so many samples."""
    sizes = (config.get("conv_kernel") or [400], config.get("conv_stride") or [320])
    for kernel, stride in zip(*sizes, strict=True):
        length = max(0, (length - kernel) // stride + 1)
    return length


def _config(network: Network, letters: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a network with other letters."""
    if network.library == "ctc":
        return {**network.config, "labels": list(letters)}
    made_as = [re.sub(r"(Model|For\w+)$", "ForCTC", str(each)) for each in network.config.get("architectures") or ()]
    return {
        **network.config,
        "architectures": made_as,
        "vocab_size": len(letters),
        "pad_token_id": 0,
        "id2label": {str(number): letter for number, letter in enumerate(letters)},
        "label2id": {letter: number for number, letter in enumerate(letters)},
    }


def _numbers(known: _ctc.Alphabet) -> dict[str, int]:
    """Return the number of each letter, the space among them."""
    return {letter: number for number, letter in known.letters.items() if letter}


def _number(letter: str, able: Mapping[str, int]) -> int | None:
    """Return the number of a letter in the case that a network writes; None where it has none."""
    return next((able[each] for each in (letter, letter.upper()) if each in able), None)


def _spelling(text: str, able: Mapping[str, int], space: str) -> list[int]:
    found = [able[space] if each == " " else _number(each, able) for each in text]
    return [each for each in found if each is not None]


def _written(network: Network, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text as it is written, no more than the network can write."""
    path = network.folder / "tokenizer.json"
    if not path.is_file():
        raise HubError(
            f"'{network.backbone.reference}' has no tokenizer.json.",
            hint="Save its processor into the same folder: processor.save_pretrained(folder)",
        )
    tokenizer = Tokenizer.from_file(str(path))
    most = int(network.config.get("max_target_positions", 448)) - ROOM
    # A text's first token has a space in front, as in all that these networks were trained on.
    written = [" " + " ".join(text.split()) for text in texts]
    return [tokenizer.encode(each, add_special_tokens=False).ids[:most] for each in written]
