"""The Model: an opened bundle with its verbs, as Python users hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from headstart.core.bundle import Bundle
from headstart.core.errors import UsageError
from headstart.core.progress import Progress, Quiet
from headstart.runtime import Runtime
from headstart.stages.files import open_rows, opened_files
from headstart.stages.kept import Kept, open_for
from headstart.stages.pretrained import Pretrained
from headstart.stages.taught import is_taught, open_taught, taught_of


@final
class Model:
    """A fitted model, ready to answer.

    Args:
        runtime: the opened bundle.
        report: what was measured when it was fitted.
    """

    def __init__(self, runtime: Runtime, report: Mapping[str, Any]) -> None:
        self.runtime, self.report = runtime, report

    @property
    def path(self) -> Path:
        """Where its bundle is."""
        if self.runtime.bundle is None:
            raise TypeError("This model was never written.")
        return self.runtime.bundle.path

    def predict(self, rows: Any) -> Any:
        """Answer one row or many.

        Args:
            rows: one text or file, one mapping of columns, a list of either, or a data frame.

        Returns:
            One record (a dict) for one row, else a list of records in the same order.

        Raises:
            DataError: a column is missing or unknown.
        """
        runtime, files = self.runtime, self.runtime.file_columns
        if isinstance(rows, (str, Path, Mapping)):
            return runtime.predict_rows(open_rows([rows], runtime.main_column, files))[0]
        if isinstance(rows, Sequence):
            return runtime.predict_rows(open_rows(rows, runtime.main_column, files))
        from headstart.stages.read import read_table

        table, _ = read_table(rows)
        answers = runtime.predict(opened_files(table, files, Path()))
        return [dict(zip(answers, record, strict=True)) for record in zip(*answers.values(), strict=True)]

    def evaluate(self, source: Any) -> dict[str, Any]:
        """Judge the model on another labelled table; see `headstart.evaluate`."""
        from headstart.stages.evaluate import evaluate

        return evaluate(self, source)

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r}, targets={list(self.runtime.targets)})"


def open_model(path: Path | str, progress: Progress | None = None) -> Model | Pretrained:
    """Open a bundle: a `Model` of targets, or a `Pretrained` network that was tuned to answer by itself.

    Raises:
        BundleError: it is missing, damaged, too new, or its backbone cannot be had.
    """
    return open_taught(path, progress) if is_taught(path) else open_targets(path, progress)


def open_targets(
    path: Path | str, progress: Progress | None = None, kept: Kept | None = None, *, baselines: bool = True
) -> Model:
    """Open a bundle of a model that predicts targets.

    Args:
        kept: networks that are open already, which it may share.
        baselines: whether the from-scratch heads are opened too, which only evaluation needs.

    Raises:
        BundleError: it is missing, damaged, too new, or its backbone cannot be had.
        UsageError: it is one of a network that answers by itself.
    """
    if is_taught(path):
        task = taught_of(Bundle.open(path)).task
        raise UsageError(
            f"'{path}' is a network that was tuned to {task.replace('_', ' ')}, not a model that predicts columns.",
            allowed="What works with it: headstart predict, serve, evaluate, compress, benchmark, show and push; in "
            "Python, open_model.",
            hint=f"headstart predict {path} INPUT",
        )
    bundle = Bundle.open(path)
    opened = open_for(bundle, progress or Quiet(), kept)
    networks = {name: each.network for name, each in opened.items()}
    runtime = Runtime.open(bundle, networks, {name: each.session for name, each in opened.items()}, baselines=baselines)
    return Model(runtime, bundle.json("report.json"))
