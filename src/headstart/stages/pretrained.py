"""Pretrained: a model used as it is, without training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from headstart import hubs, pipelines
from headstart.core.arrays import Session
from headstart.core.backbone import REFERENCE, Backbone, Network
from headstart.core.blob import Blob
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.pipeline import Pipeline
from headstart.core.progress import Progress, Quiet
from headstart.stages.networks import SHORT, open_network
from headstart.stages.read import table_writer


@final
class Pretrained:
    """A pretrained model, opened for one task and ready to answer.

    Args:
        task: the name of the pipeline.
        pipeline: what turns inputs into answers.
        network: the model on disk.
        session: the model, running.
    """

    def __init__(self, task: str, pipeline: Pipeline, network: Network, session: Session) -> None:
        self.task, self.pipeline, self.network, self.session = task, pipeline, network, session
        self._detectors: dict[str, Session] = {}

    def predict(self, inputs: Any, **options: Any) -> Any:
        """Answer one input or many.

        Args:
            inputs: a text, a conversation (a list of messages), or the path, bytes or content of a picture or
                recording; or a list of them.
            options: the task's own, such as `top=3`.

        Returns:
            A record (a dict) for one input, else a list of records in the same order.

        Raises:
            DataError: an input cannot be read.
            UsageError: the task has no such option.
        """
        many = isinstance(inputs, (list, tuple)) and not _is_conversation(inputs)
        cells = [self.cell(each) for each in (inputs if many else [inputs])]
        records = self.pipeline.run(self.network, self.session, cells, self._settled(options))
        return records if many else records[0]

    def stream(self, given: Any, **options: Any) -> Iterator[str]:
        """Yield one input's answer piece by piece, as it comes.

        Raises:
            UsageError: the task's answer comes whole.
        """
        return self.pipeline.stream(self.network, self.session, self.cell(given), self._settled(options))

    def _settled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options; a voice detector that is named by its reference is opened, once."""
        settled = self.pipeline.settle(options)
        if isinstance(settled.get("vad"), (str, os.PathLike)):
            name = os.fspath(settled["vad"])
            if name not in self._detectors:
                self._detectors[name] = pretrained(name, task="speech").session
            settled["vad"] = self._detectors[name]
        return settled

    def cell(self, given: Any) -> Any:
        """Return an input as the pipeline reads it: a text as it is, else a path as a Blob.

        Raises:
            DataError: there is no such file.
        """
        if self.network.backbone.modality in ("text", "noise") or not isinstance(given, (str, os.PathLike)):
            return given
        if isinstance(given, str) and given.startswith("data:"):
            return given
        path = Path(given).expanduser()
        if not path.is_file():
            raise DataError(f"There is no file '{given}'.", hint=f"This model reads {self.network.backbone.modality}.")
        return Blob.of_file(path, str(given))

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path | str) -> None:
        """Write answers: a picture, a sound or vectors where the task makes them, else a table, input first.

        Raises:
            UsageError: the suffix names nothing that can be written.
        """
        cells = [self.cell(each) for each in inputs]
        if self.pipeline.write(records, cells, Path(out)):
            return
        plain = [{name: value for name, value in each.items() if not name.startswith("_")} for each in records]
        names = list(dict.fromkeys(name for each in plain for name in each))
        with table_writer(out) as writer:
            table = {"input": [str(each) for each in inputs]}
            writer.write(table | {name: [each.get(name) for each in plain] for name in names})

    def __repr__(self) -> str:
        return f"Pretrained({self.network.backbone.reference!r}, task={self.task!r})"


def pretrained(
    reference: str, *, task: str = "", weights: Path | str = "", progress: Progress | None = None
) -> Pretrained:
    """Open a pretrained model as it is.

    Args:
        reference: `hub:name` or `hub:name@revision`.
        task: what it is to do, such as `fill_mask`; what it is made for where empty.
        weights: a local file whose weights are put into the named architecture.

    Raises:
        HubError: it cannot be had or opened.
        UsageError: it cannot do that task.
    """
    name = task.replace("-", "_")
    if name:
        pipelines.registry.get(name)
    opened = open_network(reference, "", progress or Quiet(), use=name or "auto", weights=str(weights))
    network = opened.network
    pipeline = pipelines.registry.get(network.use)()
    reason = pipeline.supports(network)
    if reason:
        raise UsageError(
            f"'{reference}' cannot {network.use.replace('_', ' ')}: {reason}.",
            allowed=f"It can: {listed(network.backbone.uses)}.",
        )
    return Pretrained(network.use, pipeline, network, opened.session)


def _is_conversation(inputs: Sequence[Any]) -> bool:
    return bool(inputs) and all(isinstance(each, Mapping) and "role" in each for each in inputs)


def is_reference(text: str) -> bool:
    """Return whether a text names a pretrained model, not a bundle's folder.

    >>> is_reference("builtin:all-MiniLM-L6-v2"), is_reference("models/tickets")
    (True, False)
    """
    match = REFERENCE.fullmatch(text)
    if match is None or os.path.exists(text):
        return False
    return match["hub"] in SHORT or match["hub"] in hubs.registry.names()


def backbone_of(reference: str) -> Backbone:
    """Return the unresolved backbone of a reference, short hub names spelt out."""
    backbone = Backbone.parse(reference)
    return replace(backbone, hub=SHORT.get(backbone.hub, backbone.hub))
