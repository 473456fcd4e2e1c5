"""Domain pretraining: a text network first reads what the user has, without labels, and then learns the targets."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.course import Course, Estimate, Examples, Tuned
from headstart.core.errors import HubError
from headstart.core.method import Candidate, NetworkMethod
from headstart.core.registry import require
from headstart.methods import _tuning
from headstart.methods.finetune import Finetune

FEWEST = 200
"""Texts below which there is not enough to learn a language by."""
HELD, MOST_HELD = 0.05, 500
"""Share of the texts, and how many at the most, that say when to stop."""
PLAN: Mapping[str, Any] = {
    "epochs": 3,
    "batch": 32,
    "rate": 5e-5,
    "head_rate": 1e-3,
    "decay": 0.9,
    "weight_decay": 0.01,
    "patience": 2,
}
AT_ONCE = 32


@final
class DomainPretrain(NetworkMethod):
    """Masked-language modelling on the user's own texts goes on where pretraining ended (Gururangan and others 2020,
    arXiv:2004.10964); then linear layers are fitted on the new embeddings.

    It reads the texts without labels where there are some, else the training texts. A network that was published with
    the layers which tell hidden tokens uses them; one without tells them by its own token embeddings. With `then` as
    `finetune`, all weights learn the targets afterwards.
    """

    pretrained = True
    options: Mapping[str, Any] = {"share": 0.15, "whole": False, "then": "probe"}

    def supports(self, course: Course) -> str:
        """Return an empty string, or why there is nothing to pretrain on."""
        network = course.network
        if network.backbone.modality != "text" or network.library != "transformers":
            return "it reads texts, with a network of the transformers library"
        if network.use != "embed":
            return "it is for networks that embed; those that write or fill masks learn texts by an objective"
        if len(_rows(course)) < FEWEST:
            return f"it needs {FEWEST} texts, with or without labels"
        require("torch", "finetune")
        from headstart.training.masking import Words

        try:
            Words.of(network)
        except HubError as error:
            return error.problem[:1].lower() + error.problem[1:].rstrip(".")
        return ""

    def worthwhile(self, course: Course) -> str:
        """Return an empty string where there are texts without labels: the training texts alone are too few to help."""
        return "" if course.unlabelled is not None else "no texts without labels were given (--unlabelled TABLE)"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        learner, _, examples = self._learner(course)
        return _tuning.measured(replace(course, examples=examples, train=_rows(course)), learner, self._plan(course))

    def _plan(self, course: Course) -> Any:
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        return Plan().given(PLAN).given(own)

    def _learner(self, course: Course) -> tuple[Any, Session, Examples]:
        """Return what tells hidden tokens, its session, and the texts with hidden tokens."""
        require("torch", "finetune")
        from headstart.training.learner import Learner
        from headstart.training.masked import Tied
        from headstart.training.masking import Masked, Words

        given = {**self.options, **course.options}
        texts = course.unlabelled or course.examples
        whole = str(given["whole"]).lower() in ("true", "1", "yes")
        examples = Masked(texts, Words.of(course.network), course.seed, share=float(given["share"]), whole=whole)
        if "fill_mask" in course.network.backbone.uses:
            session = _tuning.opened(course, replace(course.network, use="fill_mask"))
            return Learner(session.trainable()), session, examples
        session = _tuning.opened(course)
        return Tied(session.trainable()), session, examples

    def tune(self, course: Course) -> Tuned:
        """Pretrain, keep the epoch that tells hidden tokens of held texts best, and fit linear layers on the result.

        Raises:
            ResourceError: the budget has no room for one epoch.
        """
        learner, _, examples = self._learner(course)
        from headstart.training.loop import Loop
        from headstart.training.tuned import saved

        plan, (train, held) = self._plan(course), _parts(course)
        if course.budget.seconds:
            seconds = _tuning.measured(replace(course, examples=examples, train=train), learner, plan).seconds
            plan = _tuning.affordable(course, seconds, plan)
        learner.eval()
        before = _held_loss(learner, examples, held)
        loop = Loop(
            learner,
            examples,
            train,
            plan,
            lambda: -_held_loss(learner, examples, held),
            course.folder,
            seed=course.seed,
            budget=course.budget,
            progress=course.progress,
            label="domain pretraining",
            log=str(course.options.get("log", "")),
        )
        state = loop.run(course.resume)
        learner.cpu()
        after = -state.best
        network = saved(course.network, learner.network, course.folder / "pretrained")
        done = {"epochs": state.epochs, "steps": state.step, "seconds": state.seconds, "texts": len(train)}
        course.progress.say(f"domain pretraining: {before:.3f} nats a hidden token before, {after:.3f} after")
        notes = [
            f"The network read {len(train):,} texts without labels: hidden tokens of others cost it {before:.2f} nats "
            f"each before, {after:.2f} after."
        ]
        return _fitted(course, network, notes, done | plan.told())


def _rows(course: Course) -> np.ndarray:
    """Return the rows that are read: all without labels, else those to learn from."""
    return np.arange(len(course.unlabelled.sizes)) if course.unlabelled is not None else course.train


def _parts(course: Course) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts to learn from, and those that say when to stop; rows held for choosing are in neither."""
    rows = np.random.default_rng(course.seed).permutation(_rows(course))
    held = min(max(int(HELD * len(rows)), 20), MOST_HELD)
    return rows[held:], rows[:held]


def _held_loss(learner: Any, examples: Examples, rows: np.ndarray) -> float:
    """Return the mean of how unlikely hidden tokens of some texts are, in nats; the same ones are hidden each time."""
    torch = require("torch", "finetune")
    device = next(learner.parameters()).device
    order = rows[np.argsort(-examples.sizes[rows], kind="stable")]
    nats, count = 0.0, 0
    learner.eval()
    with torch.inference_mode():
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            arrays = examples.batch(some)
            told = int((arrays["answers"] >= 0).sum())
            given = {name: torch.from_numpy(np.ascontiguousarray(each)).to(device) for name, each in arrays.items()}
            nats, count = nats + float(learner(given, torch.from_numpy(some))) * told, count + told
    return nats / max(count, 1)


def _fitted(course: Course, network: Network, notes: list[str], done: Mapping[str, Any]) -> Tuned:
    """Return the encoder alone, with linear layers on its new embeddings, and how good they are on the held rows."""
    if not course.lessons:
        return Tuned(network, {}, 0.0, (), notes, done)
    started = time.monotonic()
    built = _tuning.opened(course, network).trainable()
    blank = _tuning.Start(np.zeros(1, np.float32), np.ones(1, np.float32), [])
    every = np.arange(len(course.examples.sizes))
    vectors = _tuning.embeddings(course, _tuning.supervised(course, built, blank), every)
    after = replace(course, vectors=vectors, network=network)
    if course.options.get("then") == "finetune":
        own = {name: each for name, each in course.options.items() if name not in DomainPretrain.options}
        tuned = Finetune().tune(replace(after, folder=course.folder / "finetune", options=own))
        return replace(tuned, notes=notes, trained={"pretrained": done, **tuned.trained})
    learner = _tuning.supervised(after, built, _tuning.linear_start(after))
    score = _tuning.held_score(after, learner)
    race = [Candidate("linear layers on the new embeddings", score, time.monotonic() - started, chosen=True)]
    tuned = _tuning.handed_back(after, learner, score, race=race, notes=notes, trained=done)
    shutil.rmtree(network.folder, ignore_errors=True)
    return tuned
