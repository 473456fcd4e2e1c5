"""Fine-tuning: all weights of a pretrained network, or its upper blocks, learn on from where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from headstart.core.course import Course, Estimate, Tuned
from headstart.core.errors import ResourceError
from headstart.core.files import read_json, write_json
from headstart.core.method import Candidate, NetworkMethod
from headstart.core.registry import require
from headstart.methods import _tuning

PLANS: Mapping[str, Mapping[str, Any]] = {
    "text": {"rate": 1e-4, "head_rate": 2e-4, "decay": 0.95, "epochs": 4, "batch": 32},
    "image": {"rate": 1e-4, "decay": 0.9, "epochs": 6, "batch": 32, "patience": 3},
    "audio": {"rate": 1e-4, "decay": 0.9, "epochs": 10, "batch": 8, "patience": 3},
}
"""Settings by what the network reads; those of `training/plan.py` for the rest."""


@final
class Finetune(NetworkMethod):
    """Linear probing, then fine-tuning (LP-FT: Kumar and others 2022, arXiv:2202.10054).

    The linear layers start from those of the frozen embedding; AdamW with layer-wise decay of the learning rate,
    warm-up and cosine; the epoch that is best on held rows is kept; then the weights between the pretrained and the
    tuned ones, W_pretrained + share · (W_tuned - W_pretrained), that are best on held rows (WiSE-FT). Batch norms stay
    in inference mode. With `frozen` blocks, their output is worked out once.
    """

    pretrained = True
    options: Mapping[str, Any] = {}

    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why the network cannot be tuned."""
        if course.lessons and course.vectors is None:
            return "it needs the embeddings of the network as it is, to begin with"
        if not course.lessons and course.judge is None:
            return "it needs a way to judge the network's own outputs"
        return "" if len(course.held) and len(course.train) else "it needs rows to learn from and rows to choose by"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        learner, _ = self._learner(course)
        return _tuning.measured(course, learner, frozen(self._plan(course), course, learner))

    def _plan(self, course: Course) -> Any:
        require("torch", "finetune")
        from headstart.training.plan import Plan

        known = PLANS.get(course.network.backbone.modality, {})
        own = {name: each for name, each in course.options.items() if name not in ("log", "frozen")}
        return Plan().given(known).given(own)

    def _learner(self, course: Course) -> tuple[Any, Any]:
        require("torch", "finetune")
        from headstart.training.learner import Learner

        session = _tuning.opened(course)
        built = session.trainable()
        if not course.lessons:
            return Learner(built), session
        return _tuning.supervised(course, built, _tuning.linear_start(course)), session

    def tune(self, course: Course) -> Tuned:
        """Train, choose the epoch and the share by the held rows, and write the network.

        Raises:
            ResourceError: the budget has no room for one epoch.
        """
        plan = self._plan(course)
        learner, session = self._learner(course)
        plan = frozen(plan, course, learner)
        return trained(course, learner, session, plan, "fine-tuning")


def frozen(plan: Any, course: Course, learner: Any) -> Any:
    """Return the plan with the blocks that are to stay as they are: a number, `all`, or `half` of them."""
    from headstart.training.blocks import blocks_of

    wanted = course.options.get("frozen", plan.frozen)
    named = {"all": -1, "half": len(blocks_of(learner.network).blocks) // 2}
    return plan.given({"frozen": named.get(wanted, wanted)})


def trained(
    course: Course,
    learner: Any,
    session: Any,
    plan: Any,
    label: str,
    *,
    origin: Callable[[Mapping[str, Any], Any], Mapping[str, Any]] = lambda before, _: before,
    finish: Callable[..., Tuned] = _tuning.handed_back,
    between: bool = True,
    **more: Any,
) -> Tuned:
    """Train a learner by a plan and hand it back, with the best share of the way from where it began.

    Args:
        origin: returns where that way begins, from the state before training and the trained learner.
        finish: writes what was learnt, as `handed_back` does.
        between: whether weights between the first and the tuned ones are tried; random ones are no place to begin.
        more: what else the loop is told, such as `deal`.
    """
    from headstart.training.loop import Loop

    score = _tuning.scorer(course, learner, session)
    learner.eval()
    before = {name: each.detach().cpu().clone() for name, each in learner.state_dict().items()}
    floor = score()
    plan = _planned(course, learner, plan, label)
    loop = Loop(
        learner,
        course.examples,
        course.train,
        plan,
        score,
        course.folder,
        seed=course.seed,
        budget=course.budget,
        progress=course.progress,
        label=label,
        log=str(course.options.get("log", "")),
        **more,
    )
    state = loop.run(course.resume)
    device = next(learner.parameters()).device
    before = {name: each.to(device) for name, each in before.items()}
    share, value, race = 1.0, state.best, list[Candidate]()
    if between:
        share, value, race = _tuning.interpolated(learner, origin(before, learner), score, floor)
    learner.cpu()
    done = {"epochs": state.epochs, "steps": state.step, "seconds": state.seconds, "share": share, "plan": plan.told()}
    course.progress.say(f"{label}: {value:.4f} on held rows with {share:.0%} of the change ({floor:.4f} before)")
    return finish(course, learner, value, race=race, trained=done)


def _planned(course: Course, learner: Any, plan: Any, label: str) -> Any:
    """Return the plan with the epochs that the budget has room for; a course that goes on keeps the plan it had."""
    kept = course.folder / "plan.json"
    if course.resume and kept.is_file():
        return plan.given(read_json(kept, ResourceError))
    if course.budget.seconds:
        cost = _tuning.measured(course, learner, plan)
        plan = _tuning.affordable(course, cost.seconds, plan)
        told = f"about {cost.seconds:.0f} s an epoch, {plan.epochs} epochs, {cost.memory / 1e6:,.0f} MB for what moves"
        course.progress.say(f"{label}: {told}")
    write_json(kept, plan.told())
    return plan
