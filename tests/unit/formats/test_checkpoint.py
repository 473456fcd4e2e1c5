"""Tensors come out of checkpoints of every layout, and nothing that a checkpoint holds is run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")

from headstart.core.errors import HubError  # noqa: E402
from headstart.formats import _checkpoint  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NAMES = [
    "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
]  # fmt: skip


class Runs:
    """Unpickled, it would call a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def network():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def wrapped(name: str):
    return lambda states: {name: states, "epoch": 3, "optimizer": {"lr": 0.1}}


@pytest.mark.parametrize(
    "shape",
    [
        dict,
        wrapped("state_dict"),
        wrapped("model"),
        wrapped("params_ema"),
        wrapped("g_ema"),
        lambda states: {"state_dict": {f"module.{name}": each for name, each in states.items()}},
        lambda states: {"model": {f"_orig_mod.module.{name}": each for name, each in states.items()}},
        lambda states: {"args": argparse.Namespace(lr=1), "best": np.float64(0.5), "model": states},
    ],
    ids=["plain", "state_dict", "model", "params_ema", "g_ema", "module", "compiled", "settings"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_layout(shape, zipped, tmp_path):
    states = network().state_dict()
    torch.save(shape(states), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = _checkpoint.tensors(tmp_path / "a.pth")
    assert list(found) == NAMES
    assert torch.equal(found["0.weight"], states["0.weight"])


def test_a_network_saved_whole(tmp_path):
    torch.save(network(), tmp_path / "a.pt")
    assert sorted(_checkpoint.tensors(tmp_path / "a.pt")) == sorted(NAMES)


def test_one_part_of_several(tmp_path):
    torch.save({"g": {"a": torch.zeros(2)}, "g_ema": {"a": torch.ones(2)}}, tmp_path / "a.pt")
    assert _checkpoint.tensors(tmp_path / "a.pt", "g")["a"].sum() == 0
    assert _checkpoint.tensors(tmp_path / "a.pt")["a"].sum() == 2
    with pytest.raises(HubError, match="'d'"):
        _checkpoint.tensors(tmp_path / "a.pt", "d")


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert _checkpoint.tensors(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]
    (tmp_path / "b.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(HubError, match="cannot be read as safetensors"):
        _checkpoint.tensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch RAN",)),
        (eval, ("open('RAN', 'w')",)),
        (exec, ("open('RAN', 'w')",)),
        (os.mkdir, ("RAN",)),
        (Path.touch, (Path("RAN"),)),
        (np.save, ("RAN", np.zeros(1))),
        (torch.save, ({}, "RAN")),
        (__import__, ("antigravity",)),
    ],
    ids=lambda each: getattr(each, "__qualname__", ""),
)
def test_nothing_runs(function, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": network().state_dict(), "more": Runs(function, *arguments)}, "a.pt")
    before = sorted(os.listdir())
    try:
        found = _checkpoint.tensors(Path("a.pt"))
    except HubError as error:
        assert "a.pt" in error.problem
    else:
        assert list(found) == NAMES
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("function", [os.system, eval], ids=["system", "eval"])
def test_what_can_run_code_is_refused_by_name(function, tmp_path):
    torch.save({"model": network().state_dict(), "more": Runs(function, "1")}, tmp_path / "a.pt")
    with pytest.raises(HubError, match=r"names '(posix\.system|builtins\.eval)', which can run code"):
        _checkpoint.tensors(tmp_path / "a.pt")


def test_classes_are_known_only_while_a_file_is_read(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1), "model": network().state_dict()}, tmp_path / "a.pt")
    _checkpoint.tensors(tmp_path / "a.pt")
    left = [each[0] if isinstance(each, tuple) else each for each in torch.serialization.get_safe_globals()]
    assert _checkpoint.Husk not in left


def test_programs_and_damaged_files_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(network()), tmp_path / "program.pt")
    with pytest.raises(HubError, match="TorchScript"):
        _checkpoint.tensors(tmp_path / "program.pt")
    torch.save(network().state_dict(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "b.pt").write_bytes(content)
        with pytest.raises(HubError, match="cannot be read as a checkpoint"):
            _checkpoint.tensors(tmp_path / "b.pt")
    with pytest.raises(HubError, match="no file"):
        _checkpoint.tensors(tmp_path / "none.pt")
    torch.save({"epoch": 3}, tmp_path / "c.pt")
    with pytest.raises(HubError, match="holds no network's tensors"):
        _checkpoint.tensors(tmp_path / "c.pt")


def test_weights_fit_or_the_misfits_are_named():
    module, states = network(), network().state_dict()
    del states["1.num_batches_tracked"]
    _checkpoint.fit(module, states, "a.pth")
    assert torch.equal(module.state_dict()["0.weight"], states["0.weight"])
    wrong = {**states, "2.weight": torch.ones(1), "0.bias": torch.ones(5)}
    del wrong["1.bias"]
    with pytest.raises(HubError) as caught:
        _checkpoint.fit(module, wrong, "a.pth")
    for part in ("1 missing: '1.bias'", "1 not asked for: '2.weight'", "0.bias [5] in place of [4]"):
        assert part in caught.value.problem
