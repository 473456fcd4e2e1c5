"""Build diffusers' pipelines that draw pictures: Stable Diffusion, unCLIP and the others of its library."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import diffusers
import torch

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.core.trust import need_trust, trusted


def build(network: Network) -> Drawn:
    """Load a pipeline from its folder: from safetensors, from this machine, and without running code that it brings.

    Raises:
        HubError: a file is missing, is unsafe, or the pipeline needs more than a text.
    """
    folder, reference = network.folder, network.backbone.reference
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    _find_retired(index)
    if own := _own_code(index):
        need_trust(reference, own)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            trust_remote_code=trusted(),
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HubError(
            f"'{reference}' cannot be opened with diffusers {diffusers.__version__}: {reason[:300]}",
            allowed="Weights are read from safetensors files only.",
        ) from error
    asked = inspect.signature(pipeline.__call__).parameters
    needed = [
        name for name, each in asked.items() if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    if more := [name for name in needed if name != "prompt"]:
        raise HubError(
            f"'{reference}' draws from {listed(more)}, not from a text alone.", allowed="Text-to-image pipelines."
        )
    pipeline.set_progress_bar_config(disable=True)
    return Drawn(pipeline, asked)


def _find_retired(index: Mapping[str, Any]) -> None:
    """Let diffusers find those of its modules that it has moved to `deprecated`: folders go on naming the old place."""
    for each in index.values():
        name = each[0] if isinstance(each, list) and each else None
        if isinstance(name, str) and name.isidentifier() and not hasattr(diffusers.pipelines, name):
            place = f"diffusers.pipelines.deprecated.{name}"
            try:
                found = importlib.util.find_spec(place)
            except ModuleNotFoundError:
                return
            if found is not None:
                setattr(diffusers.pipelines, name, importlib.import_module(place))


def _own_code(index: Mapping[str, Any]) -> list[str]:
    """Return the modules that a pipeline names and that do not belong to diffusers or transformers."""
    named = index.get("_class_name")
    found = [] if isinstance(named, str) and hasattr(diffusers, named) else [f"{named}"]
    for part, each in index.items():
        if part.startswith("_") or not isinstance(each, list) or not each or each[0] is None:
            continue
        if each[0] not in ("diffusers", "transformers") and not hasattr(diffusers.pipelines, str(each[0])):
            found.append(f"{each[0]}.py")
    return found


class Drawn:
    """A pipeline: a text in, pictures out."""

    def __init__(self, pipeline: Any, asked: Mapping[str, Any]) -> None:
        self.pipeline, self.asked, self.module = pipeline, asked, _Parts(pipeline)

    def generate(self, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `picture` (height, width, 3) uint8 for each of `seeds`.

        Args:
            arrays: nothing.
            settings: `text`; `steps` and `guidance`, where None is the pipeline's own.
        """
        given: dict[str, Any] = {"output_type": "np"}
        if "prompt" in self.asked:
            given["prompt"] = settings.get("text") or ""
        # unCLIP and its kin have several networks, each with steps and guidance of its own.
        for option, ending in (("steps", "num_inference_steps"), ("guidance", "guidance_scale")):
            if settings.get(option) is not None:
                given |= {name: settings[option] for name in self.asked if name.endswith(ending)}
        for seed in settings["seeds"]:
            made = self.pipeline(**given, generator=torch.Generator("cpu").manual_seed(seed)).images[0]
            pixels = torch.as_tensor(made).float()
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
            yield {"picture": (pixels.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, -1, 3)}


class _Parts:
    """A pipeline's networks, moved together as one."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def eval(self) -> _Parts:
        for each in self.pipeline.components.values():
            if isinstance(each, torch.nn.Module):
                each.eval()
        return self

    def to(self, device: str) -> _Parts:
        self.pipeline.to(device)
        return self
