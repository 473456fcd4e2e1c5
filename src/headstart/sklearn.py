"""A scikit-learn estimator: headstart's adaptation inside `Pipeline`, `cross_val_score` and the like.

>>> from headstart.sklearn import HeadstartClassifier
>>> HeadstartClassifier(method="scratch").get_params()["method"]
'scratch'
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from headstart import heads, modalities, tasks
from headstart.core.dataset import Dataset
from headstart.core.errors import HeadstartError
from headstart.core.method import Budget
from headstart.core.progress import Quiet
from headstart.core.recipe import Recipe
from headstart.core.source import Table
from headstart.runtime import Runtime, Target
from headstart.stages import networks, twins
from headstart.stages.check import joined
from headstart.stages.infer import infer
from headstart.stages.learn import learn
from headstart.stages.prepare import prepare
from headstart.stages.save import kind_of

TARGET = "target"


class HeadstartClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Adapts a pretrained encoder to texts, rows, or both.

    Args:
        backbone: `hub:name`, or `auto`.
        method: `probe`, `scratch` or `auto`.
        precision_target: see `automated`.
        budget: seconds; 0 means no limit.
        random_state: the seed.

    Attributes:
        classes_: the labels, sorted.
        runtime_: the opened model.
    """

    def __init__(
        self,
        backbone: str = "auto",
        method: str = "auto",
        precision_target: float = 0.95,
        budget: float = 0.0,
        random_state: int | None = 0,
    ) -> None:
        self.backbone, self.method = backbone, method
        self.precision_target, self.budget, self.random_state = precision_target, budget, random_state

    def fit(self, X: Any, y: Any) -> HeadstartClassifier:  # noqa: N803  (scikit-learn's own names)
        """Fit on texts (n,), a numeric array (n, features), or a data frame, and labels (n,).

        Raises:
            ValueError: the data cannot be used.
        """
        y = self._labels(X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}.")
        table = self._table(X, fitting=True)
        table[TARGET] = [str(code) for code in codes]
        recipe = Recipe(
            target=(TARGET,),
            task={TARGET: "classify"},
            backbone=self.backbone,
            method=self.method,
            budget=self.budget,
            precision_target=self.precision_target,
            seed=int(self.random_state or 0),
        )
        try:
            self._learn(self._dataset(table), recipe)
        except HeadstartError as error:
            raise ValueError(str(error)) from error
        return self

    def _labels(self, X: Any, y: Any) -> np.ndarray:  # noqa: N803
        if y is None:
            raise ValueError("This HeadstartClassifier requires y to be passed, but the target y is None.")
        if not _is_text(X):
            _, y = validate_data(self, X, y, dtype=None, ensure_all_finite="allow-nan", skip_check_array=_is_frame(X))
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            import warnings

            from sklearn.exceptions import DataConversionWarning

            warnings.warn(
                "A column-vector y was passed when a 1d array was expected.", DataConversionWarning, stacklevel=3
            )
            y = y.ravel()
        check_classification_targets(y)
        return y

    def _dataset(self, table: Table) -> Dataset:
        names = [name for name in table if name != TARGET]
        if self._kind == "array":
            return Dataset(table, {"row": names}, (TARGET,), dict.fromkeys(names, "number"))
        if self._kind == "text":
            return Dataset(table, {"text": names}, (TARGET,), dict.fromkeys(names, "text"))
        return infer(table, targets=(TARGET,))

    def _learn(self, dataset: Dataset, recipe: Recipe) -> None:
        rows = len(dataset)
        groups = twins.groups(joined(dataset, "text")) if "text" in dataset.inputs else np.arange(rows)
        prepared = prepare(dataset, np.zeros(rows, bool), groups, recipe, Quiet())
        learnt = learn(prepared, TARGET, recipe, Budget(self.budget), Quiet())
        self.runtime_ = Runtime(None, prepared.inputs, prepared.sessions, {TARGET: learnt.target})
        self.backbone_ = networks.summary(prepared.opened)
        self.method_ = learnt.method

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return labels (n,)."""
        chosen = self._scores(X).argmax(axis=1)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return calibrated probabilities (n, classes) in the order of `classes_`."""
        return self._scores(X)

    def automated(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return a mask (n,) of the rows that may be acted on without a person at `precision_target`."""
        check_is_fitted(self, "runtime_")
        answers = self.runtime_.predict(self._table(X, fitting=False))
        return np.array(answers[f"{TARGET}_automated"], dtype=bool)

    def _scores(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self, "runtime_")
        runtime, table = self.runtime_, self._table(X, fitting=False)
        target = runtime.targets[TARGET]
        try:
            chances = target.task.calibrated(target.head.scores(runtime.features(table)))
        except HeadstartError as error:
            raise ValueError(str(error)) from error
        # A class of one row is not learnt, so it keeps probability 0.
        full = np.zeros((len(chances), len(self.classes_)))
        full[:, [int(label) for label in target.task.spec()["labels"]]] = chances
        return full

    def _table(self, X: Any, *, fitting: bool) -> Table:  # noqa: N803
        if _is_text(X):
            if fitting:
                self._kind, self.n_features_in_ = "text", 1
            return {"text": [str(each) for each in np.asarray(X, dtype=object).ravel()]}
        if _is_frame(X):
            validate_data(self, X, reset=fitting, skip_check_array=True)
            self._kind = "frame" if fitting else self._kind
            return {str(name): list(X[name]) for name in X.columns}
        checked = validate_data(self, X, reset=fitting, dtype="numeric", ensure_all_finite="allow-nan")
        if fitting:
            self._kind = "array"
        return {f"x{each}": checked[:, each].tolist() for each in range(checked.shape[1])}

    def __sklearn_tags__(self) -> Any:
        """Say that missing values are allowed, and that y is needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        runtime = state.pop("runtime_", None)
        if runtime is not None:
            target = runtime.targets[TARGET]
            state["_saved"] = {
                "inputs": {modalities.name_of(each): each.spec() for each in runtime.inputs},
                "task": target.task.spec(),
                "head": (kind_of(target.head), target.head.spec(), target.head.arrays()),
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_saved", None)
        super().__setstate__(state)
        if saved is None:
            return
        inputs = [modalities.registry.get(name).of(spec) for name, spec in saved["inputs"].items()]
        sessions = {}
        if self.backbone_:
            opened = networks.open_network(self.backbone_["reference"], self.backbone_["checksum"], Quiet())
            inputs = [each.bind(opened.network) if each.pretrained else each for each in inputs]
            sessions = {opened.network.backbone.modality: opened.session}
        kind, settings, arrays = saved["head"]
        target = Target(
            tasks.registry.get(saved["task"]["name"]).load(saved["task"]), heads.registry.get(kind).of(settings, arrays)
        )
        self.runtime_ = Runtime(None, inputs, sessions, {TARGET: target})


def _is_frame(X: Any) -> bool:  # noqa: N803
    return hasattr(X, "columns") and hasattr(X, "iloc")


def _is_text(X: Any) -> bool:  # noqa: N803
    if isinstance(X, (list, tuple)):
        return bool(X) and all(isinstance(each, str) for each in X)
    if getattr(X, "ndim", 0) == 1 or (getattr(X, "ndim", 0) == 2 and not _is_frame(X) and X.shape[1] == 1):
        return all(isinstance(each, str) for each in np.asarray(X, dtype=object).ravel()[:100]) and len(X) > 0
    return False
