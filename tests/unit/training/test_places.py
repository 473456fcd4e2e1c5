"""What stands behind a network is where the network is, before a loop moves anything: steps are timed before that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")

from headstart.core.course import Lesson  # noqa: E402
from headstart.tasks.classify import Classify  # noqa: E402
from headstart.training.learner import Supervised  # noqa: E402
from headstart.training.masked import Tied  # noqa: E402
from headstart.training.simclr import Alike  # noqa: E402

pytestmark = pytest.mark.slow
TOKENS, WIDTH = 11, 4


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(TOKENS, WIDTH)
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=WIDTH))

    def get_input_embeddings(self):
        return self.tokens


def supervised(built):
    lesson = Lesson(Classify.of("t", ["a", "b"]), np.zeros(3, np.int64), np.ones(3, bool))
    start = (np.zeros((WIDTH, 2), np.float32), np.zeros(2, np.float32))
    return Supervised(built, [lesson], np.zeros(WIDTH), np.ones(WIDTH), [start])


@pytest.mark.parametrize(
    "learner", [supervised, Tied, lambda built: Alike(built, WIDTH)], ids=["supervised", "tied", "alike"]
)
def test_layers_and_statistics_are_on_the_networks_device(learner):
    with torch.device("meta"):  # another device than the processor, without needing one
        encoder = Encoder()
    made = learner(SimpleNamespace(module=encoder))
    tensors = [*made.parameters(), *made.buffers()]
    assert len(tensors) > 1
    assert {each.device.type for each in tensors} == {"meta"}
