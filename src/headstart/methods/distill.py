"""Distillation: a copy of the network with fewer layers learns what the whole one answers, for speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from headstart.core.backbone import Network
from headstart.core.course import Course, Estimate, Tuned
from headstart.core.errors import UsageError
from headstart.core.layers import layer_count, spread
from headstart.core.method import Budget, NetworkMethod
from headstart.core.registry import require
from headstart.methods import _tuning
from headstart.methods._more_rows import joined
from headstart.methods.finetune import Finetune, trained

PLAN: Mapping[str, Any] = {"epochs": 8, "batch": 32, "rate": 5e-5, "decay": 0.9, "patience": 3}
TEACHERS = ("finetune", "none")
SHARE = 0.4
"""Share of the budget that the teacher may take."""


@final
class Distill(NetworkMethod):
    """The whole network is fine-tuned; then a copy with some of its layers learns the labels, the whole one's scores
    (Hinton and others 2015, arXiv:1503.02531) and its embeddings, on the training rows and on those without labels.

    The layers that stay are spread evenly (Sanh and others 2019, arXiv:1910.01108). With none of them, the mean of the
    token embeddings is left, which hardly takes any time.
    """

    pretrained = True
    options: Mapping[str, Any] = {"layers": "half", "teacher": "finetune", "temperature": 2.0, "weight": 1.0}

    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why there is no smaller network to be had."""
        if not course.lessons or course.vectors is None:
            return "it needs targets, and the embeddings of the network as it is"
        if course.network.library != "transformers" or not layer_count(course.network.config):
            return "it leaves out layers of a transformer, and this network has none in a list"
        return "" if len(course.held) and len(course.train) else "it needs rows to learn from and rows to choose by"

    def worthwhile(self, course: Course) -> str:
        """Return that it is for speed: it is only tried where it is asked for."""
        return "it makes a network faster, not better; ask for it with --method distill"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs: of the whole network, which teaches."""
        return Finetune().estimate(replace(course, options={}))

    def tune(self, course: Course) -> Tuned:
        """Teach the smaller network, choose the epoch by the held rows, and write it.

        Raises:
            ResourceError: the budget has no room for one epoch.
            UsageError: there is no such number of layers, or no such teacher.
        """
        kept, plan = self._kept(course), self._plan(course)
        teacher = self._teacher(course)
        student = _cut(course, teacher.network if teacher else course.network, kept)
        wide = replace(joined(course), network=student)
        session = _tuning.opened(wide)
        built = session.trainable()
        wide = replace(wide, vectors=_vectors(wide, built))
        besides = self._besides(course, wide, teacher) if teacher else None
        learner = _tuning.supervised(wide, built, _tuning.linear_start(wide), besides)
        tuned = trained(wide, learner, session, plan, "distillation")
        told = {
            "layers": len(kept),
            "teacher": teacher.score if teacher else None,
            "unlabelled": len(wide.train) - len(course.train),
            "parameters": student.backbone.parameters,
        }
        return replace(tuned, trained={**tuned.trained, **told})

    def _given(self, course: Course) -> dict[str, Any]:
        return {**self.options, **course.options}

    def _plan(self, course: Course) -> Any:
        require("torch", "finetune")
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        return Plan().given(PLAN).given(own)

    def _kept(self, course: Course) -> list[int]:
        """Return the numbers of the layers that stay."""
        count, wanted = layer_count(course.network.config), self._given(course)["layers"]
        wanted = count // 2 if wanted == "half" else wanted
        if not str(wanted).isdigit() or int(wanted) >= count:
            raise UsageError(
                f"layers is '{wanted}', and '{course.network.backbone.reference}' has {count}.",
                allowed=f"A number from 0 to {count - 1}, or 'half'.",
            )
        return spread(count, int(wanted))

    def _teacher(self, course: Course) -> Tuned | None:
        """Return the whole network, fine-tuned; None where the smaller one learns from the labels alone."""
        wanted = self._given(course)["teacher"]
        if wanted not in TEACHERS:
            raise UsageError(f"There is no teacher '{wanted}'.", allowed="Teachers: 'finetune', 'none'.")
        if wanted == "none":
            return None
        budget = Budget(SHARE * course.budget.left()) if course.budget.seconds else course.budget
        return Finetune().tune(replace(course, options={}, budget=budget, folder=course.folder / "teacher"))

    def _besides(self, course: Course, wide: Course, teacher: Tuned) -> Callable[..., Any]:
        """Return the loss that draws the smaller network's answers to the teacher's."""
        from headstart.training.soft import taught

        numbers = {}
        for name in ("temperature", "weight"):
            numbers[name] = _tuning.number(self._given(course), name, 1e-3 if name == "temperature" else 0.0)
        vectors = _vectors(wide, _tuning.opened(course, teacher.network).trainable())
        scores = [teacher.heads[name].scores({"embedding": vectors}) for name in wide.lessons]
        return taught(list(wide.lessons.values()), scores, vectors, **numbers)


def _cut(course: Course, network: Network, kept: list[int]) -> Network:
    """Return a network on disk with some of another one's layers."""
    from headstart.training.layers import cut
    from headstart.training.tuned import saved

    module = _tuning.opened(course, network).trainable().module
    try:
        changes = cut(module, network.config, kept)
    except ValueError as error:
        raise UsageError(f"'{network.backbone.reference}' cannot be made smaller: {error}.") from error
    made = saved(network, module, _tuning.own_place(course, "student"), changes)
    parameters = sum(each.numel() for each in module.parameters())
    return replace(made, backbone=replace(made.backbone, parameters=parameters))


def _vectors(course: Course, built: Any) -> np.ndarray:
    """Return a network's embeddings (n, width) of all rows that are learnt from or chosen by, 0 of the others."""
    blank = _tuning.Start(np.zeros(1, np.float32), np.ones(1, np.float32), [])
    every = np.concatenate([course.train, course.held])
    found = _tuning.embeddings(course, _tuning.supervised(course, built, blank), every)
    vectors = np.zeros((len(course.examples.sizes), found.shape[1]), np.float32)
    vectors[every] = found
    return vectors
