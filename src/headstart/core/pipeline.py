"""The Pipeline contract: what a pretrained network does as it is, without training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import UsageError, listed


@final
class Ended(str):
    """The last piece of a stream that was written token by token: no text, but how it ended.

    Args:
        tokens: how many were written.
        how: `end` (the network's own), `stop` (a stop word) or `length`.
    """

    tokens: int
    how: str

    def __new__(cls, tokens: int, how: str) -> Ended:
        """Make an empty text that knows it."""
        made = super().__new__(cls)
        made.tokens, made.how = tokens, how
        return made


NUMBERS = frozenset(("max_tokens", "temperature", "top_p", "seed", "steps", "guidance", "truncation"))
"""Options that are numbers though nothing stands in their place by default."""


class Pipeline(ABC):
    """One thing that a network does as it is (one file in `pipelines/`, whose name is a `Network.use`).

    The waist is the one of the whole of headstart, named arrays in and out. What sessions read and give, by use:

    ```
    reads   text   ids (flat), lengths (n,); where needed types (flat), positions (m,) of the tokens asked for
            image  pixels (n, …) as the network's preprocessing lays them out
            audio  samples (flat), lengths (n,) in samples; mel (n, bands, frames) beside them for Whisper
            noise  nothing
    gives   embed       embedding (n, width)
            classify    logits (n, classes), or probabilities where the network ends in them; zero_shot gives logits
            fill_mask   logits (m, vocabulary), at `positions`
            tag_tokens  logits (tokens, labels), flat
            answer      start, end (tokens,), flat
            detect      boxes (m, 4) left, top, right, bottom in pixels of the input; scores (m,); classes (m,);
                        counts (n,) boxes of each image
            transcribe  logits (frames, vocabulary), flat; frames (n,), of networks that spell (CTC)
            generate    nats (n,) of texts with weights (flat): how unlikely the weighted tokens of each are
            speech      speech (k,) of samples (k x 512,); context and state, given in again with what follows
    yields  generate    tokens (n,) at each step, -1 where a text has ended; settings max_tokens, temperature, top_p,
                        seed, end (tokens)
            transcribe  tokens (t,), start, end () in seconds, of mel (1, bands, frames); settings language, timestamps
            imagine     picture (height, width, 3) uint8 for each seed, of no arrays; settings seeds, text, steps,
                        guidance, truncation
    ```

    What is given comes from `Session.run`, what is yielded from `Session.generate`.
    """

    options: Mapping[str, Any] = {}
    """What a user may set, with its default; None means: the network's own."""

    left_out: str = ""
    """What to tell a terminal of what `show` leaves out, where nothing is written."""

    many: bool = True
    """Whether several inputs make sense in one call."""

    @abstractmethod
    def supports(self, network: Network) -> str:
        """Return an empty string, or the reason why this network cannot do it."""

    @abstractmethod
    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return one record for each input, plain JSON data; what is none (a picture) stands under `_` names.

        Args:
            inputs: texts, or Blobs of pictures and recordings.
            options: every name of `self.options`.

        Raises:
            DataError: an input cannot be read.
        """

    def stream(self, network: Network, session: Session, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield one input's answer piece by piece, as it comes.

        Raises:
            UsageError: its answer comes whole.
        """
        raise UsageError("This task's answer comes whole, not piece by piece.", hint="Leave --stream out.")
        yield ""

    def show(self, record: Mapping[str, Any]) -> str:
        """Return one record as lines for a terminal."""
        return "\n".join(f"{name:<12} {value}" for name, value in record.items() if not name.startswith("_"))

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path) -> bool:
        """Write what a table cannot hold (a drawn picture, a sound), atomically, and return whether it did.

        False means that the records are to be written as a table.
        """
        return False

    def settle(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, those given in place of the defaults.

        Raises:
            UsageError: one is given that this pipeline does not have, or that is no number where it must be one.
        """
        unknown = [name for name in given if name not in self.options]
        if unknown:
            flags = [name.replace("_", "-") for name in self.options]
            raise UsageError(
                f"The task '{type(self).__module__.rpartition('.')[2]}' has no option {listed(unknown)}.",
                allowed=f"Its options: {listed(flags)}." if flags else "It has none.",
                hint="--task names another one.",
            )
        return {**self.options, **{name: self._checked(name, value) for name, value in given.items()}}

    def _checked(self, name: str, value: Any) -> Any:
        """Return an option's value, as a number where it must be one."""
        usual = self.options[name]
        if value is None or not (name in NUMBERS or (type(usual) in (int, float))):
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            shown = repr(value)[:60]
            raise UsageError(f"'{name.replace('_', '-')}' is {shown}.", allowed="It is a number.")
        if not isinstance(value, str):
            return value
        return int(number) if number.is_integer() else number
