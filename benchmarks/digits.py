"""Spoken digits joined to short utterances with exact transcripts, for speech-to-text; one speaker held out.

    python benchmarks/digits.py FOLDER [--held theo] [--train 900] [--test 200] [--longest 6] [--seed 0]

Writes FOLDER/train.csv and FOLDER/test.csv (file, transcript, speaker) and the recordings that they name. Clips are of
the free spoken digit data set; those of one recording are of one speaker, with pauses between them. No clip stands in
both tables: the speaker of the test table is not in the other one.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np
from data import DATA, table, write

WORDS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
PAUSE = (0.05, 0.45)
"""Seconds of near silence before, between and after clips."""
HISS = 12.0
"""Standard deviation of what a pause holds, of 16-bit samples."""


def clip(name: str) -> tuple[np.ndarray, int]:
    """Return a recording's samples, (n,) int16, and its rate."""
    with wave.open(str(DATA / "fsdd/recordings" / name)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def joined(rows: list[dict[str, str]], rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return clips one after the other, with pauses."""
    parts, rate = [], 8000

    def pause() -> np.ndarray:
        return (HISS * rng.standard_normal(int(rng.uniform(*PAUSE) * rate))).astype(np.int16)

    for row in rows:
        samples, rate = clip(row["file"])
        parts += [pause(), samples]
    return np.concatenate([*parts, pause()]), rate


def save(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def utterances(rows: list[dict[str, str]], count: int, longest: int, seed: int, folder: Path) -> list[dict[str, str]]:
    """Write `count` recordings of 1 to `longest` digits below a folder; return what they say."""
    rng = np.random.default_rng(seed)
    speakers = sorted({row["speaker"] for row in rows})
    made = []
    for number in range(count):
        speaker = speakers[number % len(speakers)]
        own = [row for row in rows if row["speaker"] == speaker]
        chosen = [own[each] for each in rng.choice(len(own), rng.integers(1, longest + 1))]
        name = f"{folder.name}/{speaker}_{number:04d}.wav"
        save(folder / f"{speaker}_{number:04d}.wav", *joined(chosen, rng))
        said = " ".join(WORDS[int(row["digit"])] for row in chosen)
        made.append({"file": name, "transcript": said, "speaker": speaker})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held", default="theo")
    parser.add_argument("--train", type=int, default=900)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--longest", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = table("fsdd/index.csv")
    speakers = sorted({row["speaker"] for row in rows})
    if chosen.held not in speakers:
        parser.error(f"there is no speaker '{chosen.held}'; speakers: {', '.join(speakers)}")
    for name, count, seed in (("train", chosen.train, chosen.seed), ("test", chosen.test, chosen.seed + 1)):
        own = [row for row in rows if (row["speaker"] == chosen.held) == (name == "test")]
        (chosen.folder / name).mkdir(parents=True, exist_ok=True)
        made = utterances(own, count, chosen.longest, seed, chosen.folder / name)
        print(write(chosen.folder / f"{name}.csv", made), len(made))


if __name__ == "__main__":
    main()
