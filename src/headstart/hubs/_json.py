"""Read the JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.core.errors import HubError


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        HubError: it is not there, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HubError(
            f"'{path.parent}' has no {path.name}: it is not a model folder.",
            allowed="A model folder has config.json, model.safetensors and tokenizer.json.",
        ) from error
    except (OSError, ValueError) as error:
        raise HubError(f"'{path}' cannot be read as JSON: {error}.") from error
