"""The Objective contract: what a network's own outputs are trained for, and how they are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.dataset import Dataset, is_blank
from headstart.core.source import Table


class Objective(ABC):
    """What one pipeline's network learns from rows with answers (one file in `objectives/`, named as the pipeline).

    A target column becomes scores by a `Task` and a head. A network that draws boxes, writes or spells answers itself:
    an objective turns rows into arrays with the answers beside the inputs, which the network's own loss reads, and
    judges the pipeline's records against the answers.

    What the loss reads, by use, beside what the pipeline's session reads:

    ```
    detect      boxes (m, 4) left, top, right, bottom in pixels of the input; classes (m,); counts (n,)
    transcribe  tokens (flat), tokens_lengths (n,)
    generate    weights (flat), beside ids: 1 where a token is to be learnt, 0 where it is only read
    fill_mask   answers (flat), beside ids: the hidden token, or -100
    embed       of 2n texts, the first of n pairs and then the second: first, second (n,) numbers that are alike where
                the texts are; grades (n,) where pairs are graded
    ```
    """

    primary: str
    """The metric by which two networks are compared."""

    higher: bool = True
    """Whether a higher value of it is better."""

    defaults: Mapping[str, Any] = {}
    """Settings of training that suit it in place of a plan's own, such as `rate`."""

    options: Mapping[str, Any] = {}
    """The pipeline's options with which its answers are judged, where they are not its own."""

    usual: Mapping[str, Any] = {}
    """The pipeline's options with which a tuned network answers, unless the user gives others."""

    beside: Sequence[str] = ()
    """Columns whose texts follow the one of `columns` that is read, such as the context of a question."""

    answered: int = 0
    """Rows that are answered at most when networks are judged, where answers take long; 0 is all of them."""

    @classmethod
    @abstractmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> Objective:
        """Learn what must be known from the training rows, such as class names.

        Args:
            columns: `input` and `target`, where the user named them.

        Raises:
            DataError: the data set has no such answers; the sentence says which columns are needed.
        """

    @classmethod
    @abstractmethod
    def load(cls, settings: Mapping[str, Any]) -> Objective:
        """Make the objective again from its settings."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, str]:
        """The column that is read, and the one that holds the answers."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what a bundle keeps of it as plain JSON data, such as `labels`."""

    @abstractmethod
    def ready(self, network: Network) -> dict[str, Any]:
        """Return what of the network must differ for these answers, such as `labels`; `formats` makes new layers."""

    def unable(self, network: Network) -> str:
        """Return an empty string, or why the network as it is cannot give such answers, so that nothing is compared."""
        use = type(self).__module__.rpartition(".")[2]
        if use not in network.backbone.uses:
            return f"it was not made to {use.replace('_', ' ')}"
        return "what it knows to answer is something else" if "labels" in self.ready(network) else ""

    def unusable(self, table: Table, learning: bool = True) -> dict[int, str]:
        """Return the rows that nothing can be learnt from, or judged by, with the reason as a sentence."""
        found: dict[int, str] = {}
        for name in self.columns:
            for row, cell in enumerate(table[name]):
                if is_blank(cell):
                    found.setdefault(row, f"Row {row + 1} has nothing in the column '{name}'.")
        return found

    def plan(self, network: Network) -> Mapping[str, Any]:
        """Return settings of training that suit the network: `defaults`, unless they depend on its kind."""
        return self.defaults

    @abstractmethod
    def examples(self, network: Network, table: Table, seed: int) -> Examples:
        """Return rows of a table as the network reads them, with the answers."""

    @abstractmethod
    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return metrics of the pipeline's records against the answers, `primary` among them, each as plain data."""

    def inputs(self, table: Table) -> list[Any]:
        """Return what the pipeline is given for each row; empty where its answers are not judged, see `measure`."""
        return list(table[self.columns[0]])

    def measure(self, network: Network, session: Session, table: Table, seed: int) -> dict[str, Any]:
        """Return metrics that only the network itself gives, such as perplexity, beside those of `judge`; else none.

        With `primary` among them, `_drawn` (draws,) may be its values for rows drawn anew: for the same rows and seed
        the same ones in each draw, so that two networks can be compared row by row.
        """
        return {}
