"""Networks of the transformers library: loaded safely here, run by the file of the modality that they read.

`formats/_transformers_<modality>.py` has `build(network)`. It takes torch and transformers from this file, which is the
one that needs them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.core.trust import need_trust, trusted
from headstart.formats._checkpoint import tensors

__all__ = ["build", "cache_of", "config_of", "load", "quiet", "torch", "transformers", "unsupported"]

LARGE = 4 << 30
"""Bytes of weights above which they keep their own precision: in float32 they would hardly fit into memory."""


def _module(network: Network) -> str:
    return f"headstart.formats._transformers_{network.backbone.modality}"


def unsupported(network: Network) -> str:
    """Return an empty string, or why no file here can run the network."""
    if network.config.get("pruned_heads"):
        return "attention heads were left out of it, and transformers opens no such network"
    if importlib.util.find_spec(_module(network)) is None:
        return f"it reads {network.backbone.modality}, which is not run with transformers"
    module = importlib.import_module(_module(network))
    return module.unsupported(network) if hasattr(module, "unsupported") else ""


def build(network: Network) -> Any:
    """Return the network, as the file of its modality runs it.

    Raises:
        HubError: its weights do not fit, or it would run code that the user has not trusted.
    """
    return importlib.import_module(_module(network)).build(network)


def config_of(network: Network) -> Any:
    """Return the network's configuration as transformers reads it.

    Raises:
        HubError: transformers does not know the architecture.
    """
    try:
        return transformers.AutoConfig.from_pretrained(
            network.folder, local_files_only=True, trust_remote_code=trusted()
        )
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise _unreadable(network, error) from error


def load(
    network: Network, auto: Any, *, needless: Sequence[str] = (), config: Any = None, resized: bool = False
) -> Any:
    """Return the network as a `torch.nn.Module` with all of its weights, in float32 unless it is large.

    Args:
        network: the model on disk.
        auto: the class that makes it, such as `transformers.AutoModelForMaskedLM`.
        needless: parts of names of weights that may be missing, because the outputs do not depend on them.
        config: the configuration, where it is not the folder's own.
        resized: whether layers of another shape than the weights' are new, and random, such as those of new classes.

    Raises:
        HubError: weights are missing or do not fit, so that answers would be random.
    """
    config = config or config_of(network)
    large = network.weights.is_file() and network.weights.stat().st_size > LARGE
    given: dict[str, Any] = {
        "config": config,
        "dtype": "auto" if large else torch.float32,
        "local_files_only": True,
        "trust_remote_code": trusted(),
        "output_loading_info": True,
        "weights_only": True,
        "ignore_mismatched_sizes": resized,
    }
    other = Path(network.backbone.weights) if network.backbone.weights else network.weights
    apart = {"state_dict": tensors(other)} if network.backbone.weights or other.suffix == ".bin" else {}
    try:
        with quiet():
            if apart:
                model, report = _class(auto, config).from_pretrained(None, **given, **apart)
            else:
                model, report = auto.from_pretrained(network.folder, **given)
    except Exception as error:  # safetensors' reader and torch's have classes of their own
        raise _unreadable(network, error) from error
    missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in needless))
    if missing:
        raise HubError(
            f"'{network.backbone.reference}' has no weights for {listed(missing, 4)}: its answers would be random.",
            allowed=f"Its checkpoint was saved as {listed(config.architectures or ['nothing in particular'])}.",
            hint=f"It can: {listed(network.backbone.uses)}." if network.backbone.uses else "",
        )
    return model


def _class(auto: Any, config: Any) -> Any:
    """Return the class that an automatic one stands for; only it takes tensors without a folder."""
    if not hasattr(auto, "from_config"):
        return auto
    with torch.device("meta"):
        return type(auto.from_config(config, trust_remote_code=trusted()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own reports and progress bars off the terminal; what matters becomes an error here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unreadable(network: Network, error: Exception) -> HubError:
    """Return the sentence for a network that transformers did not open."""
    code = sorted(path.name for path in network.folder.glob("*.py"))
    if code and "auto_map" in network.config and not trusted():
        try:
            need_trust(network.backbone.reference, code)
        except HubError as wanted:
            return wanted
    if "weights_only" in str(error):
        return HubError(
            f"The weights of '{network.backbone.reference}' hold more than tensors, which can run code.",
            allowed="Weights are read from safetensors files, and from files of tensors that torch.save wrote.",
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return HubError(
        f"'{network.backbone.reference}' cannot be opened with transformers {transformers.__version__}: {first[:400]}",
        hint="Its files may be incomplete, or made for another version of transformers.",
    )


def cache_of(held: Sequence[Any]) -> Any:
    """Return what a decoder has read already: keys and values (n, heads, before, width) of each layer, in turns."""
    cache = transformers.DynamicCache()
    for keys, values in zip(held[::2], held[1::2], strict=True):
        layer = transformers.cache_utils.DynamicLayer()
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        layer.dtype, layer.device = keys.dtype, keys.device
        cache.layers.append(layer)
    return cache
