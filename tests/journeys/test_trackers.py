"""What training writes for trackers, where their package is installed."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.methods.finetune import Finetune
from headstart.testing.courses import toy_course, toy_network

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_tensorboard_reads_loss_and_score(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    course = toy_course(toy_network(tmp_path / "bert"), tmp_path / "work", log="tensorboard")
    tuned = Finetune().tune(course)
    # The settings are in files of their own.
    written = [
        EventAccumulator(str(each)).Reload() for each in (tmp_path / "cache/logs").rglob("events.out.tfevents.*")
    ]
    (events,) = [each for each in written if "loss" in each.Tags()["scalars"]]
    losses = events.Scalars("loss")
    assert [each.step for each in losses] == list(range(tuned.trained["steps"]))
    assert np.isfinite([each.value for each in losses]).all()
    assert len(events.Scalars("held")) == len(tuned.trained["epochs"]) == 2


def test_mlflow_reads_settings_loss_and_score(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    tuned = Finetune().tune(toy_course(toy_network(tmp_path / "bert"), tmp_path / "work", log="mlflow"))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED" and run.data.params["batch"] == str(tuned.trained["plan"]["batch"])
    assert [each.step for each in client.get_metric_history(run.info.run_id, "loss")] == list(
        range(tuned.trained["steps"])
    )
    assert len(client.get_metric_history(run.info.run_id, "held")) == len(tuned.trained["epochs"])


def test_wandb_writes_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in {"HEADSTART_CACHE": "cache", "WANDB_DIR": "wandb"}.items():
        (tmp_path / value).mkdir()
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("WANDB_MODE", "offline")
    Finetune().tune(toy_course(toy_network(tmp_path / "bert"), tmp_path / "work", log="wandb"))
    (written,) = (tmp_path / "wandb").rglob("run-*.wandb")
    content = written.read_bytes()
    assert b"loss" in content and b"held" in content and b"learning_rate" in content
