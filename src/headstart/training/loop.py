"""The training loop: one for all methods, tasks and libraries; it can be cut off anywhere and goes on bit for bit."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list

from headstart.core.course import Examples
from headstart.core.errors import ResourceError
from headstart.core.files import cache_folder
from headstart.core.method import Budget
from headstart.core.progress import Progress
from headstart.core.threads import processor_flags
from headstart.training.batches import ahead, batches
from headstart.training.blocks import blocks_of, groups, to_training
from headstart.training.checkpoints import Checkpoints, optimizer_tensors, restore_optimizer
from headstart.training.plan import Plan
from headstart.training.replay import Replay

LONGEST = 4096
"""Tokens of one batch of texts, padding included."""
MEMORY = ("can't allocate memory", "out of memory")


@dataclass
class State:
    """Where a course stands: all of it is in a checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    accumulate: int = 1
    best: float = -math.inf
    best_epoch: int = -1
    worse: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)


@final
class Loop:
    """One course of a learner.

    Args:
        learner: the network and its loss; moved to the device that it is trained on.
        examples: the rows.
        rows: the rows to learn from.
        plan: how.
        score: how good the learner is on held rows, higher is better; asked after every epoch.
        folder: where checkpoints are kept.
        seed: makes the course repeatable.
        budget: no epoch is begun that would not end within it.
        label: what the work is called while it goes on.
        log: a tracker of accelerate to write to (`tensorboard`, `mlflow`, `wandb`); empty for none.
        every: seconds between checkpoints within an epoch.
        deal: which rows learn together, as `batches` says it.
    """

    def __init__(
        self,
        learner: Any,
        examples: Examples,
        rows: np.ndarray,
        plan: Plan,
        score: Callable[[], float],
        folder: Path,
        *,
        seed: int,
        budget: Budget,
        progress: Progress,
        label: str = "training",
        log: str = "",
        every: float | None = None,
        deal: Callable[..., list[np.ndarray]] = batches,
    ) -> None:
        self.learner, self.examples, self.rows, self.plan, self.score = learner, examples, rows, plan, score
        self.seed, self.budget, self.progress, self.label, self.deal = seed, budget, progress, label, deal
        self.checkpoints = Checkpoints(folder) if every is None else Checkpoints(folder, every)
        # A pooling layer that no loss reads must not make several processes wait for its gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        # accelerate keeps one precision for a whole process, where a notebook may have trained in another.
        self.halves = chosen_precision(plan.precision) == "bf16"
        # The folder of the work goes when it is done; what was logged stays.
        logs = cache_folder() / "logs" / folder.name
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            log_with=log or None,
            project_dir=str(logs),
            kwargs_handlers=[unused],
        )
        if log:
            self.accelerator.init_trackers("headstart", plan.told())
            own = {"mlflow": "where MLFLOW_TRACKING_URI points", "wandb": "to WANDB_DIR, or to ./wandb"}
            progress.say(f"{label}: {log} writes {own.get(log, f'to {logs}')}")
        self.state = State(accumulate=plan.accumulate)
        self.best: dict[str, Any] = {}
        self.average: dict[str, Any] = {}
        self.replay: Replay | None = None
        self.losses: list[list[tuple[Any, float]]] = []

    def run(self, resume: bool = False) -> State:
        """Train, and leave the weights that were best on the held rows in the learner.

        Raises:
            ResourceError: not even one row at a time fits into memory.
        """
        self._prepare()
        if resume:
            self._restore()
        elif self.accelerator.is_main_process:
            self.checkpoints.clear()
        epochs = self.plan.epochs
        try:
            while self.state.epoch < epochs and self.state.worse < self.plan.patience:
                if not self._affordable():
                    self.progress.say(f"{self.label}: the budget ends after {self.state.epoch} of {epochs} epochs")
                    break
                began = time.monotonic()
                self._epoch()
                self.state.seconds += time.monotonic() - began
        except KeyboardInterrupt:
            # Nothing is saved now: a step may be half taken.
            self.progress.say(f"{self.label}: interrupted; --resume goes on from the last checkpoint")
            raise
        finally:
            if self.replay is not None:
                self.replay.remove()
            self.checkpoints.wait()
        self._put(self.best)
        self.learner.eval()
        if self.accelerator.log_with:
            self.accelerator.end_training()
        return self.state

    def _prepare(self) -> None:
        plan, module = self.plan, self.learner.network
        self.frozen = len(blocks_of(module).blocks) if plan.frozen < 0 else plan.frozen
        if plan.checkpointing and hasattr(module, "gradient_checkpointing_enable"):
            module.gradient_checkpointing_enable()
        made = groups(
            module,
            self.learner.head,
            frozen=self.frozen,
            rate=plan.rate,
            head_rate=plan.head_rate,
            decay=plan.decay,
            weight_decay=plan.weight_decay,
            still=self.learner.still,
        )
        self.learner.balance = plan.balance
        self.learner.to(self.accelerator.device)
        self.optimizer = torch.optim.AdamW(made, fused=True)
        several = self.accelerator.num_processes > 1
        self.model = self.accelerator.prepare(self.learner) if several else self.learner
        self.moving = {name: each for name, each in self.learner.named_parameters() if each.requires_grad}
        if self.learner.fresh:
            statistics = {name: each for name, each in module.named_buffers() if each.is_floating_point()}
            self.moving |= {f"network.{name}": each for name, each in statistics.items()}
        self.sizes = self.examples.sizes
        texts = bool(self.sizes.max(initial=0) > 1)
        self.longest = LONGEST if texts else 0
        found = blocks_of(module)
        self.still = found.frozen(self.frozen)
        inner = [list(each.parameters()) for each in found.blocks[::-1]]
        self.thaws = [*inner, list(found.stem)] if plan.gradual else []
        if plan.average:
            self.average = {name: each.detach().clone() for name, each in self.moving.items()}
        if self.frozen and not several and self.accelerator.device.type == "cpu" and hasattr(self.learner, "embedding"):
            to_training(module, self.still)
            replay = Replay(self.learner.built, self.frozen)
            if replay.fill(self.examples, batches(self.sizes, self.rows, self.plan.batch, self.longest, 0, 0)):
                self.replay = replay
                self.progress.say(f"{self.label}: the output of {self.frozen} frozen blocks is kept")

    def _affordable(self) -> bool:
        done = len(self.state.epochs)
        return agreed(not done or self.budget.left() > 1.05 * self.state.seconds / done)

    def _epoch(self) -> None:
        state, plan = self.state, self.plan
        planned = self.deal(self.sizes, self.rows, plan.batch, self.longest, self.seed, state.epoch)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        # Each process takes as many steps: where batches do not go round, the first ones come again.
        planned = (planned * world)[: -(-len(planned) // world) * world][rank::world]
        steps = len(planned) * plan.epochs
        self._mode()
        label = f"{self.label}, epoch {state.epoch + 1} of {plan.epochs}"
        with self.progress.bar(label, len(planned), "step") as bar:
            bar.advance(state.batch)
            for rows, given in self._feed(planned[state.batch :]):
                self._step(rows, given, steps)
                state.batch += 1
                state.step += 1
                bar.advance(1)
                if self.checkpoints.due() and self.accelerator.is_main_process:
                    self._save()
        self._count_losses()
        self._judge(state.loss / max(len(planned), 1))

    def _mode(self) -> None:
        to_training(self.learner.network, self.still, self.learner.fresh)
        self.learner.head.train()
        for depth, parameters in enumerate(self.thaws):
            for each in parameters:
                each.requires_grad_(depth < self.state.epoch)

    def _feed(self, planned: list[np.ndarray]) -> Any:
        if self.replay is not None:
            for rows in planned:
                yield rows, self.replay.tensors(self.examples, rows)
            return
        for rows, arrays in ahead(self.examples, planned, self.state.epoch):
            yield rows, {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in arrays.items()}

    def _step(self, rows: np.ndarray, given: Mapping[str, Any], steps: int) -> None:
        """Take one step of the optimizer; where memory runs out, in twice as many parts."""
        state, plan = self.state, self.plan
        share = plan.share(state.step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        while True:
            # Dropout draws from a seed of the step, so that a resumed course draws the same.
            torch.manual_seed((self.seed * 1_000_003 + state.step) % (1 << 62))
            self.optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._backward(rows, given)
                break
            except RuntimeError as error:
                if not _is_memory(error) or state.accumulate >= len(rows):
                    if _is_memory(error):
                        raise ResourceError("There is not enough memory to learn from even one row.") from error
                    raise
                state.accumulate *= 2
                self.progress.say(f"{self.label}: out of memory; batches go through in {state.accumulate} parts now")
        if plan.clip:
            torch.nn.utils.clip_grad_norm_([each for each in self.moving.values() if each.grad is not None], plan.clip)
        self.optimizer.step()
        if self.average:
            names = list(self.average)
            keep = min(plan.average, (1 + state.step) / (10 + state.step))
            torch._foreach_lerp_([self.average[each] for each in names],
                                 [self.moving[each].detach() for each in names], 1 - keep)  # fmt: skip
        self.losses.append(loss)
        if self.accelerator.log_with:
            told = {"loss": sum(float(each) * part for each, part in loss), "learning_rate": plan.rate * share}
            self.accelerator.log(told, step=state.step)

    def _count_losses(self) -> None:
        """Add up the losses of the last steps: reading each at once would make the processor wait for the GPU."""
        for parts in self.losses:
            total = 0.0
            for each, share in parts:
                total += float(each) * share
            self.state.loss += total
        self.losses.clear()

    def _backward(self, rows: np.ndarray, given: Mapping[str, Any]) -> list[tuple[Any, float]]:
        """Return the loss of each part, and which share of the rows it is of."""
        losses = []
        parts = [(rows, given)] if self.state.accumulate == 1 else self._parts(rows)
        for some, tensors in parts:
            placed = {name: each.to(self.accelerator.device) for name, each in tensors.items()}
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.halves):
                loss = self.model(placed, torch.from_numpy(some))
            share = len(some) / len(rows)
            self.accelerator.backward(loss * share)
            losses.append((loss.detach(), share))
        return losses

    def _parts(self, rows: np.ndarray) -> Any:
        for some in np.array_split(rows, min(self.state.accumulate, len(rows))):
            yield next(iter(self._feed([some])))

    def _judge(self, loss: float) -> None:
        state = self.state
        own = {name: each.detach().clone() for name, each in self.moving.items()} if self.average else {}
        self._put(self.average)
        self.learner.eval()
        value = self._scored()
        state.epochs.append({"loss": loss, "score": value})
        state.epoch, state.batch, state.loss = state.epoch + 1, 0, 0.0
        if value > state.best:
            state.best, state.best_epoch, state.worse = value, state.epoch - 1, 0
            self.best = {name: each.detach().clone() for name, each in self.moving.items()}
        else:
            state.worse += 1
        self._put(own)
        self.progress.say(f"{self.label}, epoch {state.epoch} of {self.plan.epochs}: loss {loss:.4f}, held {value:.4f}")
        if self.accelerator.log_with:
            self.accelerator.log({"held": value, "epoch": state.epoch}, step=state.step)
        if self.accelerator.is_main_process:
            self._save()

    def _scored(self) -> float:
        if self.replay is None:
            return self.score()
        with self.replay.lifted():
            return self.score()

    def _put(self, tensors: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, each in tensors.items():
                self.moving[name].copy_(each)

    def _save(self) -> None:
        self._count_losses()
        tensors = {f"now.{name}": each for name, each in self.moving.items()}
        # Right after the best epoch its weights are those of now, unless these are averaged.
        if self.average or self.state.batch or self.state.best_epoch != self.state.epoch - 1:
            tensors |= {f"best.{name}": each for name, each in self.best.items()}
        tensors |= {f"average.{name}": each for name, each in self.average.items()}
        self.checkpoints.save(vars(self.state) | {"best": _finite(self.state.best)},
                              tensors | optimizer_tensors(self.optimizer))  # fmt: skip

    def _restore(self) -> None:
        found = self.checkpoints.load()
        if found is None:
            return
        state, tensors = found
        self.state = State(**{**state, "best": -math.inf if state["best"] is None else state["best"]})
        self._put(_named(tensors, "now."))
        best = _named(tensors, "best.")
        if not best and self.state.best_epoch >= 0:
            best = _named(tensors, "now.")
        self.best = {name: each.to(self.accelerator.device) for name, each in best.items()}
        for name, each in _named(tensors, "average.").items():
            self.average[name].copy_(each)
        restore_optimizer(self.optimizer, tensors)
        self.progress.say(f"{self.label}: goes on after step {self.state.step}, in epoch {self.state.epoch + 1}")


def agreed(value: Any) -> Any:
    """Return the first process's value in every process: clocks differ, and who disagrees would wait forever."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return value
    return broadcast_object_list([value])[0]


def chosen_precision(wanted: str) -> str:
    """Return accelerate's name of the precision to train in: bf16 where the processor or GPU computes in it."""
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if not torch.cuda.is_available():
        able = bool(processor_flags() & {"amx_bf16", "avx512_bf16"})
    return "bf16" if wanted == "bf16" or (wanted == "auto" and able) else "no"


def _is_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in MEMORY)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _named(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: each for name, each in tensors.items() if name.startswith(prefix)}
