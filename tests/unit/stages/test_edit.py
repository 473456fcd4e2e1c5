"""Edited networks open again as data, and what cannot is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
pytest.importorskip("transformers", reason="transformers is not installed")

from headstart.core.errors import HubError, UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.modalities.text import Text  # noqa: E402
from headstart.stages.edit import edit  # noqa: E402
from headstart.stages.networks import fetch, start  # noqa: E402
from headstart.testing.networks import write_bert  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bert(tmp_path):
    return f"local:{write_bert(tmp_path / 'bert', layers=3)}"


def opened(reference, text):
    network = fetch(reference, "", Quiet())
    encoded = Text(["text"]).bind(network).encode({"text": np.array([text], dtype=object)})
    return encoded, {name: start(network, name).session.run(encoded)["embedding"] for name in ("openvino", "torch")}


def test_words_that_are_kept_whole_begin_as_the_mean_of_their_pieces(bert, tmp_path):
    made = edit(bert, tmp_path / "out", tokens=["zebra", "order"])
    encoded, found = opened(made.backbone, "my zebra order")
    network = fetch(made.backbone, "", Quiet())
    assert network.config["vocab_size"] == fetch(bert, "", Quiet()).config["vocab_size"] + 1
    # [UNK] is all that the tokenizer had for it.
    before, plain = opened(bert, "my zebra order")
    assert encoded["ids"][2] != before["ids"][2]
    assert np.allclose(found["openvino"], plain["openvino"], atol=1e-4)
    assert np.allclose(found["torch"], found["openvino"], atol=1e-3)


def test_fewer_layers_and_a_hook(bert, tmp_path):
    seen = []

    def change(module):
        seen.append(len(module.encoder.layer))
        torch.nn.init.zeros_(module.encoder.layer[-1].output.dense.weight)

    made = edit(bert, tmp_path / "out", layers=2, change=change)
    assert seen == [2]
    network = fetch(made.backbone, "", Quiet())
    assert network.config["num_hidden_layers"] == 2
    before = start(fetch(bert, "", Quiet()), "torch").session.trainable().module
    assert made.parameters < sum(each.numel() for each in before.parameters())
    _, found = opened(made.backbone, "my order")
    assert np.allclose(found["torch"], found["openvino"], atol=1e-3)


def test_what_does_not_open_again_is_refused(bert, tmp_path):
    def change(module):
        module.encoder.layer[0].output.dense = torch.nn.Linear(7, 7)

    with pytest.raises(HubError, match="does not open again"):
        edit(bert, tmp_path / "out", change=change)
    assert not (tmp_path / "out").exists()


def test_edits_that_make_no_sense(bert, tmp_path):
    with pytest.raises(UsageError, match="Nothing is to be changed"):
        edit(bert, tmp_path / "out")
    with pytest.raises(UsageError, match="3 layers, and 3 are to stay"):
        edit(bert, tmp_path / "out", layers=3)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="not be overwritten"):
        edit(bert, tmp_path / "out", layers=1)
