"""`headstart fit`."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from headstart.cli import _table
from headstart.cli._lists import Joined
from headstart.cli.main import console
from headstart.core.errors import UsageError
from headstart.core.offline import go_offline
from headstart.core.recipe import Recipe, seconds

HELP = "adapt a pretrained model to a table and write a bundle with an honest report"
EXAMPLE = "Example: headstart fit tickets.csv --target department,priority --out models/tickets"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add(
        "table",
        help="a CSV, TSV, JSONL, Parquet or Arrow file, a folder or archive of texts, pictures or recordings, or "
        "DATABASE_URL::TABLE_OR_QUERY",
    )
    add(
        "--target", action=Joined, metavar="COLUMNS", help="columns to predict, separated by commas; inferred otherwise"
    )
    add("--input", action=Joined, metavar="COLUMNS", help="columns to predict from; inferred otherwise")
    add("--test", metavar="TABLE", help="judge on this table instead of held-out rows")
    add("--unlabelled", metavar="TABLE", help="rows without labels, for methods that learn from them")
    add(
        "--task",
        action="append",
        metavar="COLUMN=TASK",
        help="classify, tag or regress, instead of the inferred task; or, without a column, what a network learns to "
        "answer by itself: detect, transcribe, generate, fill_mask or embed",
    )
    add("--group", metavar="COLUMN", help="rows of one value (a speaker, a patient) stay on one side of every split")
    add("--backbone", metavar="REF", help="hub:name, such as hf:NAME or local:path/to/folder (default: auto)")
    add("--weights", metavar="FILE", help="put this file's weights into the named backbone")
    add("--offline", action="store_true", help="use what is on this machine; open no socket")
    add(
        "--method",
        help="auto, probe, scratch, finetune, … (default: auto, the best on held-out rows; with --budget it also tries "
        "methods that change the network's weights)",
    )
    add("--budget", metavar="TIME", help="such as 60s or 10m; no limit otherwise")
    add("--set", dest="options", action="append", metavar="NAME=VALUE", help="a setting of the method: epochs=3")
    add("--search", type=int, metavar="TRIALS", help="search settings of the method in so many trials, within --budget")
    add("--resume", action="store_true", help="go on with the same fit where it was cut off while tuning a network")
    add("--seed", type=int, help="makes the result repeatable (default: 0)")
    add(
        "--precision-target",
        type=float,
        metavar="SHARE",
        help="share of right answers that automated rows must reach (default: 0.95)",
    )
    add("--test-share", type=float, metavar="SHARE", help="share of rows to hold out (default: 0.2)")
    add(
        "--hourly-price",
        type=float,
        metavar="PRICE",
        help="price of an hour of this machine, for the cost per 1,000 predictions (default: 0.10)",
    )
    add(
        "--curve",
        choices=("auto", "on", "off"),
        help="forecast what more labels would bring: auto on 1,500 rows at most, on 4,000, or off (default: auto)",
    )
    add("--recipe", metavar="FILE", help="take what is not given here from a bundle's recipe.toml")
    add("--out", metavar="FOLDER", help="where to write the bundle (default: models/NAME_OF_TABLE)")
    add("--portable", action="store_true", help="carry the backbone inside the bundle")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Fit, print the report, and return it."""
    from headstart.stages.fit import fit
    from headstart.stages.report import terminal

    if chosen.offline:
        go_offline()
    recipe = _recipe(chosen)
    model = fit(
        chosen.table,
        **{("settings" if name == "options" else name): value for name, value in vars(recipe).items()},
        resume=chosen.resume,
        test=chosen.test,
        unlabelled=chosen.unlabelled,
        out=chosen.out,
        portable=chosen.portable,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if not chosen.json:
        print(terminal(dict(model.report), 80))
        print(f"\nNext:  {_next(model)}")
    return dict(model.report)


def _next(model: Any) -> str:
    """Return what to type next."""
    from headstart.stages.pretrained import Pretrained

    if isinstance(model, Pretrained):
        example = '"a text"' if model.network.backbone.modality == "text" else "FILE"
        return f"headstart predict {model.path} {example}\n       headstart evaluate {model.path} LABELLED_TABLE"
    runtime = model.runtime
    example = "FILE" if runtime.main_column in runtime.file_columns else '"a text"'
    return f"headstart predict {model.path} {example}\n       headstart serve {model.path}"


def _recipe(chosen: argparse.Namespace) -> Recipe:
    """Return the recipe file's settings, or the defaults, with what was given on the command line in their place."""
    recipe = Recipe.from_toml(Path(chosen.recipe)) if chosen.recipe else Recipe()
    given = {each.name: getattr(chosen, each.name) for each in fields(Recipe)}
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("target", "input"):
        if name in given:
            given[name] = tuple(part.strip() for part in given[name].split(",") if part.strip())
    if "task" in given:
        given["task"] = _tasks(given["task"])
    if "options" in given:
        given["options"] = {**recipe.options, **_settings(given["options"])}
    if "budget" in given:
        given["budget"] = seconds(given["budget"])
    return replace(recipe, **given)


def _settings(given: list[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` settings, numbers and truths as such."""
    found: dict[str, Any] = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"--set {each} gives no value.", allowed="Write --set NAME=VALUE, such as epochs=3.")
        try:
            found[name.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            found[name.strip().replace("-", "_")] = value
    return found


def _tasks(given: list[str]) -> dict[str, str]:
    if len(given) == 1 and "=" not in given[0]:
        return {"": given[0].replace("-", "_")}
    for each in given:
        if "=" not in each:
            raise UsageError(f"--task {each} names no task.", allowed="Write --task COLUMN=TASK.")
    return {column: task for column, _, task in (each.rpartition("=") for each in given)}
