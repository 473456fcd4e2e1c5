"""The graphs built from safetensors equal transformers' own, architecture by architecture. Needs torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from headstart import modalities  # noqa: E402
from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.onnx import Onnx  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.builtin import Builtin  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.testing.networks import write_bert  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TEXTS = ["my order has not arrived yet", "refund", "where is the parcel please " * 4, "password reset", "a to the my"]
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48}
CONFIGS = {
    "bert": lambda n: transformers.BertConfig(vocab_size=n, max_position_embeddings=64, **SIZES),
    "roberta": lambda n: transformers.RobertaConfig(vocab_size=n, max_position_embeddings=66, pad_token_id=1, **SIZES),
    "electra": lambda n: transformers.ElectraConfig(
        vocab_size=n, max_position_embeddings=64, embedding_size=16, **SIZES
    ),
    "distilbert": lambda n: transformers.DistilBertConfig(
        vocab_size=n, max_position_embeddings=64, dim=32, n_heads=4, n_layers=3, hidden_dim=48
    ),
    "camembert": lambda n: transformers.CamembertConfig(
        vocab_size=n, max_position_embeddings=66, pad_token_id=1, **SIZES
    ),
    "xlm-roberta": lambda n: transformers.XLMRobertaConfig(
        vocab_size=n, max_position_embeddings=66, pad_token_id=1, **SIZES
    ),
}


def expected(folder, model, ids: list[list[int]]) -> np.ndarray:
    vectors = []
    with torch.no_grad():
        for each in ids:
            hidden = model(torch.tensor([each])).last_hidden_state[0].mean(0)
            vectors.append((hidden / hidden.norm()).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_random_network_in_the_real_layout(architecture, tmp_path):
    folder = write_bert(tmp_path / "m")
    torch.manual_seed(1)
    config = CONFIGS[architecture](25)
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    network = Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())
    text = modalities.registry.get("text").of({"columns": ["t"]}).bind(network)
    encoded = text.encode({"text": np.array(TEXTS, dtype=object)})
    ours = OpenVINO().open(network, "f32", 1).run(encoded)["embedding"]
    ids = np.split(encoded["ids"], np.cumsum(encoded["lengths"])[:-1])
    theirs = expected(folder, model, [each.tolist() for each in ids])
    assert (ours * theirs).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_pruned_network_is_opened_by_transformers_and_by_every_engine(architecture, tmp_path):
    folder = write_bert(tmp_path / "m")
    torch.manual_seed(1)
    transformers.AutoModel.from_config(CONFIGS[architecture](25)).save_pretrained(folder)
    network = Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())
    encoded = (
        modalities.registry.get("text")
        .of({"columns": ["t"]})
        .bind(network)
        .encode({"text": np.array(TEXTS, dtype=object)})
    )
    made = OpenVINO().prune(network, 0.34, [encoded], tmp_path / "pruned")
    model, told = transformers.AutoModel.from_pretrained(made.folder, output_loading_info=True)
    assert not told["mismatched_keys"] and not [each for each in told["missing_keys"] if "pooler" not in each]
    assert {32} == {len(each) for name, each in model.named_parameters() if "intermediate.dense.bias" in name} or (
        {32} == {len(each) for name, each in model.named_parameters() if "ffn.lin1.bias" in name}
    )
    ids = np.split(encoded["ids"], np.cumsum(encoded["lengths"])[:-1])
    theirs = expected(made.folder, model.eval(), [each.tolist() for each in ids])
    for engine in (OpenVINO(), Onnx(), Torch()):
        ours = engine.open(made, "f32", 1).run(encoded)["embedding"]
        assert (ours * theirs).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize(("precision", "least"), [("f32", 0.9999), ("bf16", 0.9995), ("int8-dynamic", 0.999)])
def test_the_built_in_encoder_equals_sentence_transformers(precision, least):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    network = Builtin().fetch(Backbone.parse("builtin:all-MiniLM-L6-v2"), Quiet())
    if precision not in OpenVINO().offered(network):
        pytest.skip(f"this processor does not compute in {precision}")
    texts = ["My order #12345 has not arrived yet.", "hi", "Wo ist mein Paket?", "refund " * 300, ""] * 8
    text = modalities.registry.get("text").of({"columns": ["t"]}).bind(network)
    ours = OpenVINO().open(network, precision, 2).run(text.encode({"text": np.array(texts, dtype=object)}))["embedding"]
    theirs = SentenceTransformer(str(network.folder), device="cpu").encode(texts, show_progress_bar=False)
    assert (ours * theirs).sum(axis=1).min() >= least
