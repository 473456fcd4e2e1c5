"""The Hugging Face Hub's own client, asked with the environment of the moment, and its errors as sentences."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors, utils

from headstart.core import VERSION
from headstart.core.errors import HubError, ResourceError
from headstart.core.files import disk_errors

KEY = "HF_TOKEN"
TURN = "Put a token into HF_TOKEN (make one on the hub, under Settings, Access Tokens)."


class Unreachable(HubError):
    """The hub did not answer at all."""


def cache_dir() -> Path:
    """Return the hub's cache folder, as its client finds it: HF_HUB_CACHE, else below HF_HOME."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(chosen)).expanduser()


def repository(name: str) -> Path:
    """Return the folder of the cache that holds a model's files."""
    return cache_dir() / f"models--{name.replace('/', '--')}"


def client() -> Any:
    """Return the client; HF_ENDPOINT, which it would read once at import, counts as it is now."""
    endpoint = (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None
    return huggingface_hub.HfApi(endpoint=endpoint, library_name="headstart", library_version=VERSION)


def knock(api: Any) -> None:
    """Raise what a hub that cannot be reached raises, at once: the client's own listing tries for half a minute."""
    utils.get_session().head(f"{api.endpoint}/api/models", params={"limit": 1}, timeout=10)


def headers() -> dict[str, str]:
    """Return what every request carries: who asks, and the token where there is one."""
    told = utils.build_hf_headers(library_name="headstart", library_version=VERSION)
    return {str(name): str(value) for name, value in told.items()}


def fetches_chunks() -> bool:
    """Return whether the client fetches large files in chunks itself (Xet), which it resumes and verifies."""
    return not huggingface_hub.constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the client's own progress bars off; ours show what takes long."""
    if "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


@contextlib.contextmanager
def sentences(reference: str) -> Iterator[None]:
    """Turn what the client raises into a HubError about a model, without addresses or tokens in its words."""
    try:
        with disk_errors(cache_dir()):
            yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"'{reference}' is gated: its owner gives it only to those who accept its conditions.",
            allowed="Your token is known, but was not let in yet." if _has_token() else "No token was given.",
            hint=f"Open its page on the hub and accept them; then: {TURN}",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"'{reference}' has no such revision.", hint="Give a branch, tag or commit after the @, or leave it out."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"There is no model '{reference}', or it is private.",
            allowed="Models are named hf:owner/name.",
            hint="Search with: headstart models NAME --hub huggingface"
            + ("" if _has_token() else f" If it is private: {TURN}"),
        ) from error
    except errors.HFValidationError as error:
        raise HubError(
            f"'{reference}' is not the name of a model on this hub.", allowed="Models are named hf:owner/name."
        ) from error
    except (errors.IncompleteSnapshotError, errors.LocalEntryNotFoundError) as error:
        raise _absent(reference, error) from error
    except errors.HfHubHTTPError as error:
        raise _refused(reference, error) from error
    except (ResourceError, HubError):
        raise
    except (errors.OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(reference) from error
    except Exception as error:
        # The client's transport is a package of its own; its errors are told apart by where they come from.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore2", "hf_xet"):
            raise _unreachable(reference) from error
        raise


def _has_token() -> bool:
    return bool(huggingface_hub.get_token())


def _absent(reference: str, error: Exception) -> HubError:
    cause = error.__cause__
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(reference, cause)
    if cause is not None:
        return _unreachable(reference)
    return HubError(
        f"'{reference}' is not on this machine.",
        hint="Fetch it while there is a network: headstart models pull " + reference,
    )


def _refused(reference: str, error: Any) -> HubError:
    status = error.response.status_code
    if status == 401:
        return HubError(f"The hub does not know who asks for '{reference}' (status 401).", hint=TURN)
    if status == 403:
        return HubError(f"Your token may not do this with '{reference}' (status 403).", hint="Check its permissions.")
    if status == 429:
        return HubError(
            f"The hub asks us to wait before fetching '{reference}' (status 429).",
            hint=f"Run it again later; with a token more is allowed. {TURN}",
        )
    return HubError(
        f"The hub did not give '{reference}' (status {status}).",
        hint="Run it again later; what has arrived is kept." if status >= 500 else "Check its name and revision.",
    )


def _unreachable(reference: str) -> HubError:
    return Unreachable(
        f"'{reference}' cannot be had: the hub cannot be reached.",
        hint="Is there a network? HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy. --offline uses what is here.",
    )
