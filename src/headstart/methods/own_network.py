"""A network that begins with random weights: what the pretrained ones are compared to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from headstart.core.backbone import Network
from headstart.core.course import Course, Estimate, Lesson, Tuned
from headstart.core.errors import UsageError
from headstart.core.files import atomic_folder
from headstart.core.method import NetworkMethod
from headstart.core.registry import require
from headstart.methods import _tuning
from headstart.methods.finetune import trained

KINDS: Mapping[str, Mapping[str, Any]] = {
    "cnn": {"inner": 128, "filters": 100, "windows": [3, 4, 5], "dropout": 0.3},
    "lstm": {"inner": 128, "cells": 128, "dropout": 0.3},
    "resnet": {"widths": [32, 64, 128], "blocks": 2, "groups": 8, "dropout": 0.1},
}
"""Configurations of small networks; `formats/_small.py` builds them."""
READ = {"text": ("cnn", "lstm"), "image": ("resnet",)}
SAME = "same"
SMALL_SIDE = 64
"""Pixels up to which a picture is seen at full resolution."""
PLANS: Mapping[str, Mapping[str, Any]] = {
    "cnn": {"epochs": 20, "rate": 2e-3, "batch": 32, "patience": 4},
    "lstm": {"epochs": 20, "rate": 2e-3, "batch": 32, "patience": 4},
    "resnet": {"epochs": 30, "rate": 2e-3, "batch": 32, "patience": 8},
    SAME: {"epochs": 12, "rate": 3e-4, "batch": 32, "patience": 4},
}
COMMON: Mapping[str, Any] = {"decay": 1.0, "head_rate": 2e-3}
NOBODYS: Mapping[str, Any] = {"revision": "", "licence": "", "accuracy": 0.0, "weights": ""}
"""What a network of one's own has not, which published ones have."""
RANDOM = 0.02
"""Spread of the random weights of layers that have no way of their own to begin."""


@final
class OwnNetwork(NetworkMethod):
    """The same architecture with random weights, or a small network made for the purpose, trained on the rows alone.

    `architecture` is `same`, `cnn` or `lstm` for texts (over the tokens of the pretrained network, not its weights), or
    `resnet` for pictures. It is judged as every other method is.
    """

    pretrained = False
    options: Mapping[str, Any] = {"architecture": ""}

    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why no network can be made for these rows."""
        if not course.lessons:
            return "it needs targets to learn"
        if course.network.backbone.modality not in READ and self._wanted(course) != SAME:
            return f"there are small networks for texts and pictures only; --set architecture={SAME} takes any"
        return "" if len(course.held) and len(course.train) else "it needs rows to learn from and rows to choose by"

    def worthwhile(self, course: Course) -> str:
        """Return that it is a comparison: it is only made where it is asked for."""
        return "it is for comparison; ask for it with --method own_network"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        return _tuning.measured(course, self._learner(course)[0], self._plan(course))

    def tune(self, course: Course) -> Tuned:
        """Train, choose the epoch by the held rows, and write the network.

        Raises:
            ResourceError: the budget has no room for one epoch.
            UsageError: there is no such architecture.
        """
        plan = self._plan(course)
        learner, session, network = self._learner(course)
        label = f"own network ({self._wanted(course)})"
        done = trained(replace(course, network=network), learner, session, plan, label, between=False)
        parameters = sum(each.numel() for each in learner.network.parameters())
        tuned = replace(done.network, backbone=replace(done.network.backbone, parameters=parameters))
        told = {"architecture": self._wanted(course), "parameters": parameters}
        return replace(done, network=tuned, trained={**done.trained, **told})

    def _wanted(self, course: Course) -> str:
        modality = course.network.backbone.modality
        known = [*READ.get(modality, ()), SAME]
        wanted = str(course.options.get("architecture") or known[0])
        if wanted not in known:
            raise UsageError(
                f"There is no architecture '{wanted}' for {modality}.", allowed=f"Architectures: {', '.join(known)}."
            )
        return wanted

    def _plan(self, course: Course) -> Any:
        require("torch", "finetune")
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        return Plan().given(COMMON).given(PLANS[self._wanted(course)]).given(own)

    def _learner(self, course: Course) -> tuple[Any, Any, Network]:
        torch, wanted = require("torch", "finetune"), self._wanted(course)
        network = _unknown(course.network) if wanted == SAME else _made(course, wanted)
        session = _tuning.opened(course, network if wanted != SAME else None)
        built = session.trainable()
        if wanted == SAME:
            torch.manual_seed(course.seed)
            forget(built.module)
        learner = _tuning.supervised(course, built, _start(course, built))
        learner.fresh = True
        return learner, session, network


def _unknown(network: Network) -> Network:
    """Return a network that nothing is left of but its architecture: it belongs to whoever trains it."""
    return replace(network, backbone=replace(network.backbone, hub="own", **NOBODYS))


def _made(course: Course, kind: str) -> Network:
    """Return a small network without weights: a folder with its configuration, and the tokenizer that it reads by."""
    old, folder = course.network, _tuning.own_place(course, "untrained")
    config: dict[str, Any] = {"model_type": "headstart-small", "kind": kind, "seed": course.seed, **KINDS[kind]}
    name = old.preprocessing.get("tokenizer")
    if old.backbone.modality == "text":
        config["vocabulary"] = Tokenizer.from_file(str(old.folder / str(name))).get_vocab_size()
    else:
        config |= {"stem": 3, "stride": 1} if _side(old) <= SMALL_SIDE else {"stem": 7, "stride": 2}
    with atomic_folder(folder) as part:
        (part / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if name:
            (part / str(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old.folder / str(name), part / str(name))
    return Network(
        folder=folder,
        architecture=f"small-{kind}",
        config=config,
        weights=folder / "config.json",
        backbone=replace(old.backbone, hub="own", name=kind, width=_width(config), uses=("embed",), **NOBODYS),
        preprocessing=old.preprocessing,
        library="small",
    )


def _side(network: Network) -> int:
    sides = network.preprocessing.get("crop") or network.preprocessing.get("size")
    return max(int(each) for each in sides) if isinstance(sides, (list, tuple)) else int(sides or 0)


def _width(config: Mapping[str, Any]) -> int:
    widths = {"cnn": lambda: config["filters"] * len(config["windows"]), "lstm": lambda: 2 * config["cells"]}
    return int(widths.get(config["kind"], lambda: config["widths"][-1])())


def forget(module: Any) -> None:
    """Give a network random weights: each layer begins as its kind does, and loose parameters near 0."""
    torch = require("torch", "finetune")
    spread = getattr(getattr(module, "config", None), "initializer_range", None)
    with torch.no_grad():
        for each in module.modules():
            again, own = getattr(each, "reset_parameters", None), list(each.parameters(recurse=False))
            if callable(again):
                again()
            elif own:
                for one in own:
                    one.normal_(0.0, RANDOM)
            if spread and isinstance(each, (torch.nn.Linear, torch.nn.Embedding)):
                each.weight.normal_(0.0, float(spread))
                if getattr(each, "bias", None) is not None:
                    each.bias.zero_()


def _start(course: Course, built: Any) -> _tuning.Start:
    """Return linear layers near 0, which read embeddings of unit length as numbers of about 1."""
    torch = require("torch", "finetune")
    built.module.eval()
    device = next(built.module.parameters()).device
    arrays = course.examples.batch(course.train[:2])
    with torch.no_grad():
        given = {name: torch.from_numpy(each).to(device) for name, each in arrays.items()}
        width = built.run(given)["embedding"].shape[1]
    rng = np.random.default_rng(course.seed)
    layers = [_layer(each, width, rng) for each in course.lessons.values()]
    return _tuning.Start(np.zeros(width, np.float32), np.full(width, width**-0.5, np.float32), layers)


def _layer(lesson: Lesson, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    weights = (RANDOM * rng.standard_normal((width, lesson.task.width))).astype(np.float32)
    return weights, np.zeros(lesson.task.width, np.float32)
