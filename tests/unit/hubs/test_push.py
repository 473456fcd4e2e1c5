"""A fitted model goes to a hub or a folder and comes back whole; nothing else goes with it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from headstart.core.bundle import Bundle
from headstart.core.errors import BundleError, HubError
from headstart.core.progress import Quiet
from headstart.stages.models import pull
from headstart.stages.push import push
from tests.standins.huggingface import TOKEN
from tests.unit.hubs.conftest import CARD, save, write_json


@pytest.fixture
def bundle(tmp_path):
    return _bundle(tmp_path / "tickets")


def _bundle(path, recipe="seed = 0\n", backbone=None):
    with Bundle.create(path) as part:
        (part / "README.md").write_text(CARD)
        (part / "recipe.toml").write_text(recipe)
        save(part / "heads.safetensors", weights=np.arange(6000, dtype=np.float32))
        if backbone:
            write_json(part / "backbones.json", {"text": backbone})
    return path


def _run(*arguments):
    done = subprocess.run([sys.executable, "-m", "headstart", *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_to_a_hub_and_back(hub, repositories, bundle, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (bundle / ".env").write_text("nothing of the bundle")
    code, out, err = _run("push", str(bundle), "hf:me/tickets", "--private", "--json")
    assert code == 0, err
    assert json.loads(out)["place"].endswith("/me/tickets")
    at = repositories / "me" / "tickets"
    assert json.loads((at / ".repo.json").read_text()) == {"private": True}
    assert Bundle.open(at).manifest == Bundle.open(bundle).manifest
    assert not (at / ".env").exists()
    assert (at / "README.md").read_text() == CARD
    # Again: what is there already is brought up to date.
    assert _run("push", str(_bundle(bundle, "seed = 1\n")), "hf:me/tickets", "--quiet")[0] == 0
    assert (at / "recipe.toml").read_text() == "seed = 1\n"
    with pytest.raises(HubError, match="a model that headstart fitted") as told:
        pull("hf:me/tickets", Quiet())
    assert Bundle.open(told.value.hint.split("'")[1]).manifest == Bundle.open(at).manifest


def test_without_a_token(hub, bundle):
    code, _, err = _run("push", str(bundle), "hf:me/tickets", "--quiet")
    assert code == 5
    assert "does not know who asks" in err
    assert "HF_TOKEN" in err
    assert "Traceback" not in err


def test_to_a_folder(bundle, tmp_path):
    (bundle / ".env").write_text("nothing of the bundle")
    told = push(bundle, str(tmp_path / "copy"))
    assert Bundle.open(told["place"]).manifest == Bundle.open(bundle).manifest
    assert not (tmp_path / "copy" / ".env").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not a bundle"):
        push(bundle, str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('data = "postgresql://me:hunter22@db/x"', "a password in an address"),
        (f'note = "hf_{"a" * 34}"', "a Hugging Face token"),
        ('note = "of-the-environment-17"', "the value of the environment variable SHOP_API_KEY"),
    ],
    ids=["address", "token", "environment"],
)
def test_secrets_stay_here(hub, repositories, tmp_path, monkeypatch, text, what):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("SHOP_API_KEY", "of-the-environment-17")
    made = _bundle(tmp_path / "leaky", text)
    for to in ("hf:me/leaky", str(tmp_path / "copy")):
        with pytest.raises(BundleError, match=what) as told:
            push(made, to)
        assert "hunter22" not in str(told.value)
    assert not (repositories / "me" / "leaky").exists()
    assert not (tmp_path / "copy").exists()


def test_a_backbone_that_only_this_machine_has(hub, tmp_path):
    made = _bundle(tmp_path / "m", backbone={"reference": "local:/home/me/bert", "portable": False})
    with pytest.raises(BundleError, match="only this machine has") as told:
        push(made, "hf:me/m")
    assert "--portable" in told.value.hint


def test_a_hub_that_takes_none(bundle):
    with pytest.raises(HubError, match="takes no models"):
        push(bundle, "builtin:mine")
