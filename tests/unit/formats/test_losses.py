"""The losses of text networks: what they are next to the library's own, and that they go down."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from headstart.formats import _transformers_rows  # noqa: E402
from tests.unit.pipelines import toys  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def tensors(arrays):
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in arrays.items()}


def lines(lengths, seed=0, learnt=0.6):
    chance = np.random.default_rng(seed)
    lengths = np.array(lengths, np.int32)
    return {
        "ids": chance.integers(5, 90, lengths.sum()).astype(np.int32),
        "lengths": lengths,
        "weights": (chance.random(lengths.sum()) < learnt).astype(np.float32),
    }


def each_alone(model, given):
    """Return the sum of nats and the number of weighted tokens of each text, one by one, by the library."""
    ends = np.cumsum(given["lengths"])
    found = []
    for end, length in zip(ends, given["lengths"], strict=True):
        part = slice(end - length, end)
        ids, weights = torch.from_numpy(given["ids"][part].astype(np.int64)), given["weights"][part][1:]
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none").numpy()
        found.append(((nats * weights).sum(), weights.sum()))
    return np.array(found)


@pytest.fixture(scope="module")
def writers(tmp_path_factory):
    root = tmp_path_factory.mktemp("writers")
    made = {"gpt2": toys.gpt2(root / "gpt2"), "llama": toys.llama(root / "llama")}
    return {name: (folder, toys.opened(folder, "generate")[1]) for name, folder in made.items()}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_loss_is_the_librarys_of_each_text_alone_though_they_share_rows(writers, name):
    folder, session = writers[name]
    given = lines([30, 9, 4, 1, 17, 12, 2, 25])
    built = session.trainable()
    wanted = each_alone(transformers.AutoModelForCausalLM.from_pretrained(folder), given)
    assert built.loss(tensors(given)).item() == pytest.approx(wanted[:, 0].sum() / wanted[:, 1].sum(), abs=1e-4)
    assert built.shares is True
    rows = _transformers_rows.laid_out(torch.arange(100), torch.from_numpy(given["lengths"]).long(), True)
    assert len(rows.inputs["input_ids"]) == 4 < 8
    assert session.run(given)["nats"] == pytest.approx(wanted[:, 0], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_in_a_shared_row_has_the_scores_that_it_has_alone(writers, name):
    module = writers[name][1].trainable().module
    given = lines([11, 7])
    ids = torch.from_numpy(given["ids"]).long()
    with torch.no_grad():
        alone = module(ids[None, 11:], use_cache=False).logits[0]
        whole = module(ids[None], use_cache=False).logits[0, 11:]
        rows = _transformers_rows.laid_out(torch.cat([ids, ids]), torch.tensor([11, 7, 18]), True)
        assert rows.inputs["input_ids"].shape == (2, 18)
        together = module(**rows.inputs, use_cache=False).logits.flatten(0, 1)[rows.to][11:18]
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(whole, alone, atol=1e-2), "read on from the first text, it has other scores"


def test_a_recurrent_network_is_not_given_shared_rows(tmp_path):
    size = toys.bytes_(tmp_path)
    config = transformers.MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=4)
    folder = toys.saved(tmp_path, transformers.MambaForCausalLM(config))
    built = toys.opened(folder, "generate")[1].trainable()
    given = lines([30, 9, 4, 17])
    wanted = each_alone(transformers.AutoModelForCausalLM.from_pretrained(folder), given)
    assert built.loss(tensors(given)).item() == pytest.approx(wanted[:, 0].sum() / wanted[:, 1].sum(), abs=1e-3)
    assert built.shares is False


def test_what_has_no_weight_has_no_gradient(writers):
    built = writers["llama"][1].trainable()
    given = tensors(lines([12, 8]))
    given["weights"].zero_()
    assert built.loss(given).item() == 0
    given["weights"][5] = 1
    changed = {**given, "ids": given["ids"].clone()}
    changed["ids"][6:12] = 7  # what comes after the one learnt token
    assert built.loss(given).item() == pytest.approx(built.loss(changed).item(), abs=1e-5)
    changed["ids"][5] = 7
    assert built.loss(given).item() != pytest.approx(built.loss(changed).item(), abs=1e-2)


def descend(built, given, steps=30):
    optimizer = torch.optim.AdamW(built.module.parameters(), lr=5e-3)
    built.module.train()
    found = []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = built.loss(given)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_a_writers_loss_goes_down_and_trying_leaves_the_mode_alone(tmp_path):
    built = toys.opened(toys.gpt2(tmp_path), "generate")[1].trainable()
    found = descend(built, tensors(lines([20, 12, 6, 3])))
    assert found[-1] < 0.5 * found[0]
    assert all(each.training for each in built.module.modules())


def test_an_encoder_with_a_decoder_learns_what_stands_behind_the_prompt(tmp_path):
    size = toys.bytes_(tmp_path, roberta=True)
    config = transformers.T5Config(
        vocab_size=size, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=1,
        eos_token_id=2, pad_token_id=1, dropout_rate=0.0,
    )  # fmt: skip
    folder = toys.saved(tmp_path, transformers.T5ForConditionalGeneration(config))
    session = toys.opened(folder, "generate")[1]
    given = lines([9, 6])
    given["weights"] = np.float32([0] * 5 + [1] * 4 + [0] * 4 + [1] * 2)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.from_numpy(given["ids"]).long()
    wanted = [
        model(input_ids=ids[None, 0:5], labels=ids[None, 5:9]).loss.item() * 4,
        model(input_ids=ids[None, 9:13], labels=ids[None, 13:15]).loss.item() * 2,
    ]
    assert session.run(given)["nats"] == pytest.approx(wanted, abs=1e-3)
    assert session.trainable().loss(tensors(given)).item() == pytest.approx(sum(wanted) / 6, abs=1e-4)
    found = descend(session.trainable(), tensors(given), steps=60)
    assert found[-1] < 0.5 * found[0]


class TestHidden:
    def given(self, network):
        chance = np.random.default_rng(0)
        lengths = np.array([12, 5, 20, 1], np.int32)
        ids = chance.integers(5, network.config["vocab_size"], lengths.sum()).astype(np.int32)
        answers = np.where(chance.random(len(ids)) < 0.3, ids, -100).astype(np.int64)
        return {"ids": ids, "lengths": lengths, "answers": answers}

    @pytest.mark.parametrize("name", ["BertForMaskedLM", "RobertaForMaskedLM"])
    def test_the_loss_is_the_librarys(self, tmp_path, name):
        folder = getattr(toys, name[:-11].lower())(tmp_path, name)
        network, session = toys.opened(folder, "fill_mask")
        given = self.given(network)
        model = getattr(transformers, name).from_pretrained(folder)
        nats = 0.0
        for end, length in zip(np.cumsum(given["lengths"]), given["lengths"], strict=True):
            part = slice(end - length, end)
            ids, answers = (torch.from_numpy(given[each][part].astype(np.int64)) for each in ("ids", "answers"))
            with torch.no_grad():
                nats += torch.nn.functional.cross_entropy(model(ids[None]).logits[0], answers, reduction="sum").item()
        count = (given["answers"] != -100).sum()
        assert session.trainable().loss(tensors(given)).item() == pytest.approx(nats / count, abs=1e-4)

    def test_it_goes_down(self, tmp_path):
        network, session = toys.opened(toys.bert(tmp_path, "BertForMaskedLM"), "fill_mask")
        found = descend(session.trainable(), tensors(self.given(network)))
        assert found[-1] < 0.5 * found[0]
