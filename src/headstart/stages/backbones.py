"""Which pretrained network reads which input."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.core.errors import HubError, MissingExtra, UsageError, listed
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.stages import networks

WHY_NONE = (
    "No pretrained model was used: the inputs are numbers, categories and dates, whose meaning differs from "
    "table to table, so that no public model has learnt anything about them. Gradient boosting is used instead."
)


def open_backbones(
    wanted: Sequence[str], recipe: Recipe, warnings: list[str], progress: Progress
) -> dict[str, networks.Opened]:
    """Return the opened network of each modality in `wanted` that has one.

    The recipe names them, separated by commas; `auto` takes the default of each modality, where there is one.

    Raises:
        UsageError: one is named that reads nothing of this table.
        HubError: one that is named cannot be had.
    """
    named = recipe.backbone != "auto"
    if not wanted:
        if named:
            raise UsageError(
                f"The backbone '{recipe.backbone}' has nothing to read: the inputs are numbers, categories and dates.",
                hint="Name a column of texts, pictures or recordings with --input, or leave --backbone out.",
            )
        warnings.append(WHY_NONE)
        return {}
    if recipe.method == "scratch":
        return {}
    opened = _named(wanted, recipe, progress) if named else _default(wanted, warnings, progress)
    for each in opened.values():
        reference = each.network.backbone.reference
        progress.say(f"backbone {reference}, {each.format} {each.precision}, {each.threads} threads")
    missing = [name for name in wanted if name not in opened]
    if missing and opened:
        warnings.append(f"No pretrained model reads the {' and the '.join(missing)}: only hand-crafted features do.")
    return opened


def _named(wanted: Sequence[str], recipe: Recipe, progress: Progress) -> dict[str, networks.Opened]:
    references = [each.strip() for each in recipe.backbone.split(",") if each.strip()]
    if recipe.weights and len(references) > 1:
        raise UsageError("--weights can stand beside one --backbone only.")
    opened: dict[str, networks.Opened] = {}
    for reference in references:
        found = networks.open_network(reference, "", progress, weights=recipe.weights)
        modality = found.network.backbone.modality
        if modality not in wanted or modality in opened:
            raise UsageError(
                f"The backbone '{reference}' reads {modality}"
                + (", as another one does already." if modality in opened else ", and no input column holds that."),
                allowed=f"The inputs are: {listed(wanted)}.",
                hint="Name the input columns with --input, or leave --backbone out.",
            )
        opened[modality] = found
    if "text" in wanted and "text" not in opened:
        opened["text"] = networks.open_network(networks.DEFAULT["text"], "", progress)
    return opened


def _default(wanted: Sequence[str], warnings: list[str], progress: Progress) -> dict[str, networks.Opened]:
    opened: dict[str, networks.Opened] = {}
    for modality in wanted:
        reasons = []
        for reference in networks.candidates(modality):
            try:
                opened[modality] = networks.open_network(reference, "", progress)
                break
            except (HubError, MissingExtra) as error:
                if modality == "text":
                    raise
                reasons.append(f"{reference}: {error.problem}")
        if modality not in opened:
            tried = f" ({'; '.join(reasons)})" if reasons else ""
            warnings.append(
                f"No pretrained model that reads {modality} is on this machine{tried}. Hand-crafted features are used "
                "instead; name one with --backbone to do better."
            )
    return opened
