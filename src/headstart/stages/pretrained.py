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
from headstart.core.bundle import Bundle
from headstart.core.errors import DataError, UsageError, listed, nearest
from headstart.core.pipeline import Pipeline
from headstart.core.progress import Progress, Quiet
from headstart.core.source import ReadOptions
from headstart.stages.answer import Answers, answer_table
from headstart.stages.files import as_blob
from headstart.stages.kinds import SUFFIXES
from headstart.stages.networks import SHORT, open_network
from headstart.stages.read import table_writer

KINDS = {"text": "texts", "image": "files of pictures", "audio": "files of recordings"}


@final
class Pretrained:
    """A network that answers by itself, opened for one task: a pretrained one as it is, or one that `fit` has tuned.

    Args:
        task: the name of the pipeline.
        pipeline: what turns inputs into answers.
        network: the model on disk.
        session: the model, running.
        usual: options that hold unless others are given.
        columns: of tables, the column that it reads and those that follow it; none of a model as it is.
        bundle: where `fit` has written it; None of a model as it is.
        report: what was measured when it was fitted.
    """

    def __init__(
        self,
        task: str,
        pipeline: Pipeline,
        network: Network,
        session: Session,
        *,
        usual: Mapping[str, Any] | None = None,
        columns: Sequence[str] = (),
        bundle: Bundle | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        self.task, self.pipeline, self.network, self.session = task, pipeline, network, session
        self.usual, self.columns, self.bundle, self.report = usual or {}, columns, bundle, report or {}
        self._detectors: dict[str, Session] = {}

    @property
    def path(self) -> Path:
        """Where its bundle is."""
        if self.bundle is None:
            raise TypeError("This model is used as it is: it has no bundle.")
        return self.bundle.path

    def evaluate(self, source: Any) -> dict[str, Any]:
        """Judge a fitted model on another table with answers; see `headstart.evaluate`.

        Raises:
            UsageError: it was not fitted, so that nothing says which column holds the answers.
        """
        from headstart.stages.evaluate import evaluate

        return evaluate(self, source)

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

    def predict_table(
        self,
        source: Any,
        *,
        out: Any,
        column: str = "",
        read: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
        progress: Progress | None = None,
        **options: Any,
    ) -> int:
        """Answer every row of a table, a folder or an archive in constant memory; return how many rows there were.

        Rows that cannot be read have no answer; `progress` hears of them.

        Args:
            source: a table with a column of what the model reads, or a folder or archive of files of that kind.
            out: a table's name: its own columns come first, the answers behind; or a .npy file of vectors.
            column: the one to read; found out where it is empty.
            read: how to read the table.
            options: the task's own, such as `top=3`.

        Raises:
            DataError: it cannot be read, or has no one column that the model reads; nothing is written.
            UsageError: the task makes pictures, or nothing is written under such a name.
        """
        return answer_table(
            self.answers(options), source, out, self.task, column=column, options=read, progress=progress
        )

    def answers(self, options: Mapping[str, Any]) -> Answers:
        """Return what answers the rows of tables with some of the task's options.

        Raises:
            UsageError: the task makes pictures, which no table holds.
        """
        if self.task == "imagine":
            raise UsageError("This task draws pictures, which no table holds.", hint="Give texts, and -o FILE.png.")
        settled = self._settled(options)

        def run(inputs: Sequence[Any]) -> list[dict[str, Any]]:
            return self.pipeline.run(self.network, self.session, inputs, settled)

        asks = self.task == "answer" and not options.get("context")
        return Answers(self.network.backbone.modality, run, asks, self.columns)

    def _settled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options; a voice detector that is named by its reference is opened, once."""
        settled = self.pipeline.settle({**self.usual, **options})
        if isinstance(settled.get("vad"), (str, os.PathLike)):
            name = os.fspath(settled["vad"])
            if name not in self._detectors:
                self._detectors[name] = pretrained(name, task="speech").session
            settled["vad"] = self._detectors[name]
        return settled

    def cell(self, given: Any) -> Any:
        """Return an input as the pipeline reads it: a text as it is, else a path or URL as a Blob.

        Raises:
            DataError: there is no such file, or it is of another kind than the model reads.
        """
        reads = self.network.backbone.modality
        if reads == "noise" or not isinstance(given, (str, os.PathLike)):
            return given
        name = os.fspath(given)
        if not name.strip() and self.task not in ("generate", "imagine"):
            raise DataError("The input is empty.", allowed=f"This model reads {KINDS[reads]}.")
        if reads == "text":
            return _text_of(given)
        if name.startswith("data:"):
            return name
        if name.startswith(("http://", "https://")):
            return as_blob(name)
        path = Path(name).expanduser()
        if not is_there(path):
            raise DataError(f"There is no file '{name[:200]}'.", allowed=f"This model reads {KINDS[reads]}.")
        if path.is_dir():
            raise DataError(f"'{name}' is a folder.", hint="Give it as the only input, or name files in it.")
        return Blob.of_file(path, name)

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
        named = str(self.bundle.path) if self.bundle else self.network.backbone.reference
        return f"Pretrained({named!r}, task={self.task!r})"


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


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder of that name; a long text is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _text_of(given: Any) -> str:
    """Return a text, unless it is the name of a file, which is not what is to be read.

    Raises:
        DataError: it is one.
    """
    text = os.fspath(given)
    if (isinstance(given, os.PathLike) or (" " not in text and "." in text)) and is_there(Path(text).expanduser()):
        kind = next((kind for kind, suffixes in SUFFIXES.items() if text.lower().endswith(suffixes)), "")
        raise DataError(
            f"'{text}' is a file, and this model reads text.",
            allowed="A text in quotes; a table such as .csv, .jsonl or .parquet; '-' for lines of standard input.",
            hint=f"Models that read it: headstart models --modality {kind}"
            if kind
            else f"For its lines: headstart predict MODEL - < '{text}'",
        )
    return text


def _is_conversation(inputs: Sequence[Any]) -> bool:
    return bool(inputs) and all(isinstance(each, Mapping) and "role" in each for each in inputs)


def is_reference(text: str) -> bool:
    """Return whether a text names a pretrained model, not a bundle's folder.

    >>> is_reference("builtin:all-MiniLM-L6-v2"), is_reference("models/tickets")
    (True, False)

    Raises:
        UsageError: it looks like one, and there is no such hub.
    """
    match = REFERENCE.fullmatch(text)
    # One letter is a drive.
    if match is None or len(match["hub"]) == 1 or os.path.exists(text):
        return False
    known = [*SHORT, *hubs.registry.names()]
    if match["hub"] not in known:
        raise UsageError(
            f"There is no hub '{match['hub']}', and no folder '{text}'.",
            allowed=f"Hubs: {listed(sorted(known), 20)}.",
            hint=nearest(match["hub"], known),
        )
    return True


def backbone_of(reference: str) -> Backbone:
    """Return the unresolved backbone of a reference, short hub names spelt out."""
    backbone = Backbone.parse(reference)
    return replace(backbone, hub=SHORT.get(backbone.hub, backbone.hub))
