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
