"""What is trained: a network, what stands behind it, and the loss of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from headstart.core.course import Lesson
from headstart.core.task import Task

SMALLEST = 1e-6


class Learner(torch.nn.Module):  # type: ignore[misc]
    """A network with a loss; `forward(tensors, rows)` returns the loss () of some rows.

    Args:
        built: the network as `Session.trainable` gives it.

    Attributes:
        still: parameters of the network that stay as they are, whatever a plan says.
        fresh: whether the network began with random weights, so that its batch norms learn too.
        balance: how far rare classes count for more, 0 to 1.
    """

    def __init__(self, built: Any) -> None:
        super().__init__()
        # Convolutions run twice to three times as fast so; weights of other layers stay as they are.
        self.built, self.network = built, built.module.to(memory_format=torch.channels_last)
        self.still: Sequence[Any] = frozen_by_custom(self.network)
        self.fresh, self.balance = False, 0.0
        self.head: Any = torch.nn.ModuleList()

    def gather(self) -> None:
        """Move what stands behind the network to where the network is: it may be on a GPU from the beginning."""
        self.to(next(self.network.parameters()).device)

    def forward(self, given: Mapping[str, Any], rows: Any) -> Any:
        """Return the network's own loss."""
        return self.built.loss(given)


def frozen_by_custom(module: Any) -> list[Any]:
    """Return the parameters that are usually left as they are: those of what turns samples into features."""
    freeze = getattr(module, "freeze_feature_encoder", None)
    if freeze is None:
        return []
    moving = [each for each in module.parameters() if each.requires_grad]
    freeze()
    return [each for each in moving if not each.requires_grad]


@final
class Supervised(Learner):
    """A network that learns targets: one linear layer for each behind its standardised unit-length embedding.

    Args:
        built: the network.
        lessons: the targets, in order.
        mean: (width,) of the frozen embeddings.
        scale: (width,) of the frozen embeddings.
        starts: for each target, weights (width, scores) and bias (scores,) on standardised embeddings to begin with.
        besides: what is learnt beside the targets: a loss () of embeddings (n, width) of unit length, of each target's
            scores (n, scores), and of the rows (n,).
    """

    def __init__(
        self,
        built: Any,
        lessons: Sequence[Lesson],
        mean: np.ndarray,
        scale: np.ndarray,
        starts: Sequence[tuple[np.ndarray, np.ndarray]],
        besides: Callable[[Any, Sequence[Any], Any], Any] | None = None,
    ) -> None:
        super().__init__(built)
        self.lessons, self.besides = list(lessons), besides
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(np.maximum(scale, SMALLEST).astype(np.float32)))
        self.y = [_answers(each) for each in self.lessons]
        self.known = [torch.from_numpy(each.known) for each in self.lessons]
        for weights, bias in starts:
            layer = torch.nn.Linear(*weights.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weights.T))
                layer.bias.copy_(torch.from_numpy(bias))
            self.head.append(layer)
        self.gather()

    def embedding(self, given: Mapping[str, Any]) -> Any:
        """Return the embedding (n, width) of unit length, as the Runtime makes it."""
        return torch.nn.functional.normalize(self.built.run(given)["embedding"].float(), dim=1)

    def forward(self, given: Mapping[str, Any], rows: Any) -> Any:
        """Return the sum of the targets' losses, each the mean over the rows that have its label."""
        vectors = self.embedding(given)
        scaled = (vectors - self.mean) / self.scale
        total = scaled.sum() * 0.0
        scores = [layer(scaled) for layer in self.head]
        for found, lesson, y, known in zip(scores, self.lessons, self.y, self.known, strict=True):
            here = known[rows].to(scaled.device)
            if here.any():
                asked = y[rows].to(scaled.device)[here]
                total = total + loss_of(lesson.task, found[here], asked, self._weights(lesson, scaled.device))
        return total if self.besides is None else total + self.besides(vectors, scores, rows)

    def _weights(self, lesson: Lesson, device: Any) -> Any:
        """Return each class' weight (classes,) in the loss, 1 on average over the rows; None where all count alike."""
        if not self.balance or lesson.task.width == 1 or lesson.y.ndim == 2:
            return None
        known = lesson.y[lesson.known].astype(np.int64)
        counts = np.maximum(np.bincount(known[known >= 0], minlength=lesson.task.width), 1).astype(np.float64)
        weights = counts**-self.balance
        weights *= counts.sum() / (weights * counts).sum()
        return torch.from_numpy(weights.astype(np.float32)).to(device)

    def linear(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a target's weights (width, scores) and bias (scores,) for embeddings that are not standardised."""
        layer = self.head[place]
        raw = (layer.weight / self.scale).detach().cpu().numpy().T
        bias = (layer.bias - (layer.weight / self.scale) @ self.mean).detach().cpu().numpy()
        return undone(self.lessons[place], raw, bias)


def loss_of(task: Task, scores: Any, y: Any, weights: Any = None) -> Any:
    """Return the mean loss () of scores (n, width): cross-entropy of classes or marks, or half the squared error.

    Args:
        weights: (classes,) of classes; None where all count alike.
    """
    if task.width == 1:
        return 0.5 * torch.nn.functional.mse_loss(scores[:, 0], y)
    if y.ndim == 2:
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, y)
    losses = torch.nn.functional.cross_entropy(scores, y, weight=weights, ignore_index=-1, reduction="none")
    # Not by the batch's own weights, by which a rare class would count for less where it comes alone.
    return losses.sum() / (y != -1).sum().clamp(min=1)


def standard(lesson: Lesson) -> tuple[float, float]:
    """Return mean and scale of a target's numbers; 0 and 1 of classes and marks."""
    if lesson.task.width > 1:
        return 0.0, 1.0
    values = lesson.y[lesson.known]
    return float(values.mean()), float(max(values.std(), SMALLEST))


def undone(lesson: Lesson, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a linear map whose scores are in the target's own unit, not standardised."""
    mean, scale = standard(lesson)
    return (weights * scale).astype(np.float32), (bias * scale + mean).astype(np.float32)


def _answers(lesson: Lesson) -> Any:
    if lesson.task.width == 1:
        mean, scale = standard(lesson)
        return torch.from_numpy(((lesson.y - mean) / scale).astype(np.float32))
    kind = np.float32 if lesson.y.ndim == 2 else np.int64
    return torch.from_numpy(lesson.y.astype(kind))
