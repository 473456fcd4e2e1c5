"""Low-rank adapters: the weights stay, and a small change to each layer is learnt."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from headstart.core.adapter import TENSORS, find, merge, shapes_of, size_of
from headstart.core.course import Course, Estimate, Tuned
from headstart.core.errors import HubError, UsageError, listed
from headstart.core.files import atomic_folder
from headstart.core.method import NetworkMethod
from headstart.core.registry import require
from headstart.core.written import written
from headstart.methods import _tuning
from headstart.methods._nf4 import linear_layers, narrow
from headstart.methods.finetune import trained

PLANS: Mapping[str, Mapping[str, Any]] = {
    "text": {"rate": 1e-3, "epochs": 6, "batch": 32},
    "image": {"rate": 1e-3, "epochs": 12, "batch": 32, "patience": 4},
    "audio": {"rate": 1e-3, "epochs": 10, "batch": 8, "patience": 3},
}
"""Settings by what the network reads; a change of low rank bears a larger rate than the weights themselves."""
COMMON: Mapping[str, Any] = {"decay": 1.0, "weight_decay": 0.0}
CLOSE = 1e-5
"""How much merged weights may differ from PyTorch's own, as a share of the largest weight."""
BASES = ("whole", "nf4")
"""What the adapter is learnt on: the weights as they are, or in four bits."""
ROWS = 2
"""Rows by which it is found out which layers have a part in the answer."""


@final
class Lora(NetworkMethod):
    """Low-rank adaptation by peft (Hu and others 2021, arXiv:2106.09685): W = W_pretrained + alpha / rank · B A.

    All linear layers and plain convolutions that have a part in the answer get an adapter, not the queries and values
    alone (Dettmers and others 2023, arXiv:2305.14314); the layers behind the network learn too. Afterwards the adapter
    is written as peft writes it, and merged into the weights.

    With `base=nf4` the adapter is learnt on weights of four bits, and then merged into the whole ones.
    """

    pretrained = True
    options: Mapping[str, Any] = {"rank": 8, "alpha": 0, "base": "whole"}
    keeps = ("rate", "head_rate", "decay")

    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why the network cannot be adapted."""
        if course.lessons and course.vectors is None:
            return "it needs the embeddings of the network as it is, to begin with"
        if not course.lessons and course.judge is None:
            return "it needs a way to judge the network's own outputs"
        if course.network.weights.suffix == ".json":
            return "the network has no weights yet that could be adapted"
        return "" if len(course.held) and len(course.train) else "it needs rows to learn from and rows to choose by"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        learner, _, _ = self._learner(course)
        return _tuning.measured(course, learner, self._plan(course))

    def tune(self, course: Course) -> Tuned:
        """Learn the adapter, choose the epoch and its share by the held rows, and write adapter and network.

        Raises:
            ResourceError: the budget has no room for one epoch.
            UsageError: no layer can be adapted.
        """
        plan = self._plan(course)
        learner, session, adapted = self._learner(course)

        def finish(course: Course, learner: Any, score: float, **known: Any) -> Tuned:
            return _handed_back(course, learner, adapted, score, **known)

        return trained(course, learner, session, plan, "low-rank adapter", origin=_origin, finish=finish)

    def _plan(self, course: Course) -> Any:
        require("peft", "lora")
        require("torch", "finetune")
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        return Plan().given(COMMON).given(PLANS.get(course.network.backbone.modality, {})).given(own)

    def _learner(self, course: Course) -> tuple[Any, Any, Any]:
        """Return what is trained, its session, and peft's model, which puts adapters into the network's own module."""
        peft, torch = require("peft", "lora"), require("torch", "finetune")
        from headstart.training.learner import Learner

        session = _tuning.opened(course)
        built = session.trainable()
        learner = _tuning.supervised(course, built, _tuning.linear_start(course)) if course.lessons else Learner(built)
        torch.manual_seed(course.seed)
        new = {id(each) for each in _new(course, built.module)}
        if _narrow(course) and new:
            raise UsageError("A network with new layers is not learnt on weights of four bits.", hint="Omit base=nf4.")
        config = self._config(course, learner)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks transformers in words of its last version
            adapted = peft.get_peft_model(built.module, config)
        # peft takes the network's folder on this machine for its name.
        backbone, config = course.network.backbone, adapted.peft_config["default"]
        config.base_model_name_or_path = backbone.name if backbone.hub == "huggingface" else backbone.reference
        learner.still = [
            each for name, each in built.module.named_parameters() if ".lora_" not in name and id(each) not in new
        ]
        return learner, session, adapted

    def _config(self, course: Course, learner: Any) -> Any:
        given = {**self.options, **course.options}
        rank, backbone = _whole("rank", given["rank"]), course.network.backbone
        alpha = _whole("alpha", given["alpha"]) if given["alpha"] else 2 * rank
        if _narrow(course):
            published = shapes_of(course.network.weights)
            every = linear_layers(learner.network, _inside(learner.network))
            found = {name: each for name, each in every.items() if find(f"{name}.weight", published)}
            narrow(learner.network, list(found))
        else:
            found = _layers(course, learner)
        if not found:
            raise UsageError(
                f"No layer of '{backbone.reference}' can have a low-rank adapter.",
                allowed="Linear layers, and convolutions that are not grouped.",
                hint="Use --method finetune.",
            )
        return require("peft", "lora").LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=list(found),
            fan_in_fan_out=all(type(each).__name__ == "Conv1D" for each in found.values()),
            revision=backbone.revision or None,
            inference_mode=False,
        )


def _narrow(course: Course) -> bool:
    """Return whether the weights stay in four bits while the adapter is learnt.

    Raises:
        UsageError: there is no such base, or these weights cannot be merged with an adapter.
    """
    base = course.options.get("base", "whole")
    if base not in BASES:
        raise UsageError(f"base is '{base}'.", allowed=f"Bases: {listed(BASES)}.")
    network = course.network
    if base == "nf4" and (network.weights.suffix != ".safetensors" or network.backbone.weights):
        raise UsageError(
            "An adapter that is learnt on weights of four bits is merged into the whole ones afterwards.",
            allowed="Networks whose own weights are in one safetensors file.",
        )
    return bool(base == "nf4")


def _whole(name: str, value: Any) -> int:
    if str(value).isdigit() and int(value) >= 1:
        return int(value)
    raise UsageError(f"{name} is '{value}'.", allowed="It must be a whole number, at least 1.")


def _layers(course: Course, learner: Any) -> dict[str, Any]:
    """Return the layers that get an adapter: those by which a few rows' answers change, by name."""
    torch = require("torch", "finetune")
    module, rows = learner.network, course.train[:ROWS]
    module.requires_grad_(True)
    learner.eval()
    arrays = course.examples.batch(rows)
    device = next(learner.parameters()).device
    learner(
        {name: torch.from_numpy(each).to(device) for name, each in arrays.items()}, torch.from_numpy(rows)
    ).backward()
    inside = _inside(module)
    new = {id(each) for each in _new(course, module)}
    users: dict[int, int] = {}
    for each in module.modules():
        if isinstance(getattr(each, "weight", None), torch.nn.Parameter):
            users[id(each.weight)] = users.get(id(each.weight), 0) + 1
    found = {
        name: each
        for name, each in module.named_modules()
        if name and name not in inside and _plain(torch, each) and each.weight.grad is not None
        and users[id(each.weight)] == 1 and id(each.weight) not in new
    }  # fmt: skip
    learner.zero_grad(set_to_none=True)
    return found


def _inside(module: Any) -> set[str]:
    """Return the names of layers whose weights another one reads by itself."""
    torch = require("torch", "finetune")
    return {
        name
        for parent, each in module.named_modules()
        if isinstance(each, torch.nn.MultiheadAttention)
        for name in (f"{parent}.{child}" for child, _ in each.named_modules())
    }


def _new(course: Course, module: Any) -> list[Any]:
    """Return the parameters that the published weights lack, such as those of new classes: they learn in full."""
    weights = course.network.weights
    if course.lessons or course.network.use == "embed" or weights.suffix != ".safetensors":
        return []
    # The first BERT checkpoints call a norm's parameters so.
    old = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    shapes = {}
    for name, shape in shapes_of(weights).items():
        end = next((each for each in old if name.endswith(each)), "")
        shapes[name.removesuffix(end) + old[end] if end else name] = shape
    return [each for name, each in module.named_parameters() if shapes.get(find(name, shapes)) != tuple(each.shape)]


def _plain(torch: Any, layer: Any) -> bool:
    if type(layer) is torch.nn.Linear or type(layer).__name__ == "Conv1D":
        return True
    if type(layer) is not torch.nn.Conv2d:
        return False
    ordinary = layer.groups == 1 and layer.padding_mode == "zeros"
    return ordinary and set(layer.dilation) == {1} and not isinstance(layer.padding, str)


def _origin(before: Mapping[str, Any], learner: Any) -> dict[str, Any]:
    """Return weights from which the way to the tuned ones is straight: B begins as 0, so that A has no part in them."""
    now = learner.state_dict()
    return {name: now[name].clone() if ".lora_A." in name else each for name, each in before.items()}


def _handed_back(course: Course, learner: Any, adapted: Any, score: float, **known: Any) -> Tuned:
    """Write the adapter, and the network with the adapter merged into it."""
    from headstart.training.tuned import saved

    adapter = _tuning.own_place(course, "adapter")
    # Not those of peft's settings: it shortens their names.
    layers = [name for name, each in learner.network.named_modules() if getattr(each, "lora_A", None)]
    _write_adapter(adapted, adapter)
    if _narrow(course):
        return _handed_back_whole(course, learner, adapter, layers, score, **known)
    adapted.merge_and_unload()
    network, place = course.network, _tuning.place(course)
    try:
        if network.weights.suffix != ".safetensors" or network.backbone.weights:
            raise HubError("The weights are not the hub's own, or not in one safetensors file.")
        if _new(course, learner.network):
            raise HubError("There are layers that the hub's weights do not have.")
        tuned = written(network, place, lambda out: merge(network.weights, adapter, out))
        _compare(course, tuned, learner, layers)
        alone: Path | None = adapter
    except HubError as error:
        course.progress.say(f"the tuned weights travel whole, for the adapter cannot be merged alone: {error.problem}")
        tuned, alone = saved(network, learner.network, place), None
    learnt = {"adapter": {"bytes": size_of(adapter), "layers": len(layers)}}
    known["trained"] = {**known.get("trained", {}), **learnt}
    return _tuning.answered(course, learner, tuned, score, adapter=alone, **known)


def _handed_back_whole(
    course: Course, learner: Any, adapter: Path, layers: list[str], score: float, **known: Any
) -> Tuned:
    """Write the whole network with an adapter merged into it that was learnt on weights of four bits."""
    place = _tuning.place(course)
    tuned = written(course.network, place, lambda out: merge(course.network.weights, adapter, out))
    course.progress.say(
        "the adapter was judged on weights of four bits; the network that is handed back has whole ones"
    )
    learnt = {"adapter": {"bytes": size_of(adapter), "layers": len(layers), "base": "nf4"}}
    known["trained"] = {**known.get("trained", {}), **learnt}
    return _tuning.answered(course, learner, tuned, score, adapter=adapter, **known)


def _write_adapter(adapted: Any, folder: Path) -> None:
    """Write an adapter in peft's layout, and nothing that only this machine knows."""
    peft = require("peft", "lora")
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as part:
        config = adapted.peft_config["default"]
        trained_already = config.inference_mode
        config.inference_mode = True
        config.target_modules = sorted(config.target_modules)
        config.save_pretrained(part)
        config.inference_mode = trained_already
        tensors = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
        save_file({name: each.detach().cpu().contiguous() for name, each in tensors.items()}, part / TENSORS)


def _compare(course: Course, network: Any, learner: Any, layers: Iterable[str]) -> None:
    """Check that the layers of a merged network on disk are those that were learnt.

    Raises:
        HubError: it is another one.
    """
    again, learnt = course.open(network).trainable().module.state_dict(), learner.network.state_dict()
    for name in (f"{each}.weight" for each in layers):
        largest = max(float(learnt[name].abs().max()), 1.0)
        if float((again[name].cpu() - learnt[name].cpu()).abs().max()) > CLOSE * largest:
            raise HubError(f"'{name}' would be another one.")
