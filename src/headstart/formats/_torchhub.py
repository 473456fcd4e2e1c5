"""Build networks of PyTorch Hub repositories: their own code makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.trust import need_trust
from headstart.formats import _checkpoint
from headstart.formats._heads import Watched


def build(network: Network) -> Any:
    """Return the network that the repository's entry makes, ready for `network.use`.

    Raises:
        HubError: its code is not trusted or fails, or the weights do not fit.
    """
    folder = Path(network.config["repository"])
    need_trust(network.backbone.reference, sorted(each.name for each in folder.rglob("*.py")))
    try:
        module = torch.hub.load(str(folder), network.config["entry"], source="local", **network.config["options"])
    except Exception as error:  # It is foreign code.
        raise HubError(
            f"'{network.config['entry']}' of '{folder.name}' fails: {type(error).__name__}: {str(error)[:300]}",
            hint="It may need a package that is not installed, or its weights may have to be fetched.",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise HubError(f"The entry '{network.config['entry']}' returns a {type(module).__name__}, not a network.")
    if network.weights.name != "hubconf.py":
        _checkpoint.fit(module, _checkpoint.tensors(network.weights), network.weights.name)
    return Watched(module.eval(), network.use, network.pooling)
