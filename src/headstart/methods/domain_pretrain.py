"""Domain pretraining: a network first reads what the user has, without labels, and then learns the targets."""

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
"""Rows below which there is not enough to learn by."""
HELD, MOST_HELD = 0.05, 500
"""Share of the rows, and how many at the most, that say when to stop."""
COMMON: Mapping[str, Any] = {"head_rate": 1e-3, "decay": 0.9, "weight_decay": 0.01, "patience": 2}
PLANS: Mapping[str, Mapping[str, Any]] = {
    "text": {"epochs": 3, "batch": 32, "rate": 5e-5},
    "image": {"epochs": 5, "batch": 64, "rate": 1e-4},
    "audio": {"epochs": 5, "batch": 32, "rate": 5e-5},
}
"""Settings by what the network reads."""
NAMES = {"text": "texts", "image": "pictures", "audio": "recordings"}
AT_ONCE = 32


@final
class DomainPretrain(NetworkMethod):
    """Pretraining goes on with the user's own rows (Gururangan and others 2020, arXiv:2004.10964); then linear layers
    are fitted on the new embeddings.

    It reads the rows without labels where there are some, else the training rows. Texts are learnt by hidden tokens: a
    network that was published with the layers which tell them uses those; one without tells them by its own token
    embeddings. Pictures and recordings are learnt by two views of each (`training/simclr.py`). With `then` as
    `finetune`, all weights learn the targets afterwards.
    """

    pretrained = True
    options: Mapping[str, Any] = {"share": 0.15, "whole": False, "then": "probe"}

    def supports(self, course: Course) -> str:
        """Return an empty string, or why there is nothing to pretrain on."""
        network = course.network
        reads = network.backbone.modality
        if reads not in NAMES:
            return "it is for networks that read texts, pictures or recordings"
        if reads == "text" and network.library != "transformers":
            return "it reads texts with a network of the transformers library"
        if network.use != "embed":
            return "it is for networks that embed; those that answer by themselves learn by an objective"
        if reads != "text" and course.vectors is None:
            return "it needs the embeddings of the network as it is, to begin with"
        if len(_rows(course)) < FEWEST:
            return f"it needs {FEWEST} {NAMES[reads]}, with or without labels"
        require("torch", "finetune")
        if reads != "text":
            return ""
        from headstart.training.masking import Words

        try:
            Words.of(network)
        except HubError as error:
            return error.problem[:1].lower() + error.problem[1:].rstrip(".")
        return ""

    def worthwhile(self, course: Course) -> str:
        """Return an empty string where there are rows without labels: the training rows alone are too few to help."""
        name = NAMES[course.network.backbone.modality]
        return "" if course.unlabelled is not None else f"no {name} without labels were given (--unlabelled TABLE)"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        learner, _, examples = self._learner(course)
        return _tuning.measured(replace(course, examples=examples, train=_rows(course)), learner, self._plan(course))

    def _plan(self, course: Course) -> Any:
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        return Plan().given(COMMON).given(PLANS[course.network.backbone.modality]).given(own)

    def _learner(self, course: Course) -> tuple[Any, Session, Examples]:
        """Return what learns, its session, and the rows as it reads them: with hidden tokens, or seen twice."""
        require("torch", "finetune")
        if course.network.backbone.modality != "text":
            return _seen_twice(course)
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
        """Pretrain, keep the epoch that is best on held rows, and fit linear layers on the result.

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
        network = saved(course.network, learner.network, _tuning.own_place(course, "pretrained"))
        name = NAMES[course.network.backbone.modality]
        done = {"epochs": state.epochs, "steps": state.step, "seconds": state.seconds, name: len(train)}
        learnt = "hidden tokens of others" if name == "texts" else "telling which two views belong together"
        course.progress.say(f"domain pretraining, {learnt}: {before:.3f} nats before, {after:.3f} after")
        notes = [
            f"The network read {len(train):,} {name} without labels: {learnt} cost it {before:.2f} nats each before, "
            f"{after:.2f} after."
        ]
        return _fitted(course, network, notes, done | plan.told())


def _seen_twice(course: Course) -> tuple[Any, Session, Examples]:
    from headstart.training.simclr import Alike
    from headstart.training.views import views_of

    assert course.vectors is not None
    session = _tuning.opened(course)
    rows = course.unlabelled or course.examples
    examples = views_of(rows, course.network.preprocessing, course.seed)
    return Alike(session.trainable(), course.vectors.shape[1]), session, examples


def _rows(course: Course) -> np.ndarray:
    """Return the rows that are read: all without labels, else those to learn from."""
    return np.arange(len(course.unlabelled.sizes)) if course.unlabelled is not None else course.train


def _parts(course: Course) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to learn from, and those that say when to stop; rows held for choosing are in neither."""
    rows = np.random.default_rng(course.seed).permutation(_rows(course))
    held = min(max(int(HELD * len(rows)), 20), MOST_HELD)
    return rows[held:], rows[:held]


def _held_loss(learner: Any, examples: Examples, rows: np.ndarray) -> float:
    """Return the mean of how unlikely hidden tokens or second views are, in nats; they are the same ones each time."""
    torch = require("torch", "finetune")
    device = next(learner.parameters()).device
    order = rows[np.argsort(-examples.sizes[rows], kind="stable")]
    nats, count = 0.0, 0
    learner.eval()
    with torch.inference_mode():
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            arrays = examples.batch(some)
            told = int((arrays["answers"] >= 0).sum()) if "answers" in arrays else len(some)
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
