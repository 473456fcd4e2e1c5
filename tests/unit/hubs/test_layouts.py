"""Small models as transformers itself saves them: what they are, fetched from the hub's stand-in and opened."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.hubs.huggingface import Huggingface  # noqa: E402
from headstart.stages.networks import open_network  # noqa: E402
from headstart.testing.networks import write_bert  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _vit(at):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(at)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(at)
    return "image", ("classify", "embed"), 16, ("cat", "dog")


def _resnet(at):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(at)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(at)
    return "image", ("embed",), 16, ("LABEL_0", "LABEL_1")


def _yolos(at):
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=8, num_detection_tokens=4,
    )  # fmt: skip
    transformers.YolosForObjectDetection(config).save_pretrained(at)
    transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(at)
    return "image", ("detect",), 16, ("LABEL_0", "LABEL_1")


def _wav2vec2(at):
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8, 8],
        conv_stride=[5, 4], conv_kernel=[10, 8], num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, vocab_size=5,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(at)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(at)
    (at / "vocab.json").write_text('{"<pad>": 0, "|": 1, "a": 2, "b": 3, "<unk>": 4}')
    return "audio", ("transcribe", "embed"), 16, ("LABEL_0", "LABEL_1")


def _whisper(at):
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=40, num_mel_bins=8, max_source_positions=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(at)
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(at)
    return "audio", ("transcribe", "embed"), 16, ("LABEL_0", "LABEL_1")


def _gpt2(at):
    write_bert(at, layers=1)
    for name in ("model.safetensors", "modules.json", "sentence_bert_config.json"):
        (at / name).unlink()
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=60, n_positions=24)
    transformers.GPT2LMHeadModel(config).save_pretrained(at, max_shard_size="5KB")
    return "text", ("generate", "embed"), 16, ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("write", [_vit, _resnet, _yolos, _wav2vec2, _whisper, _gpt2], ids=lambda each: each.__name__)
def test_what_it_is(hub, repositories, write):
    modality, uses, width, labels = write(repositories / "me" / "small")
    network = Huggingface().fetch(Backbone("huggingface", "me/small"), Quiet())
    found = network.backbone
    assert (found.modality, found.uses, found.width) == (modality, uses, width)
    assert tuple(network.labels) in (labels, ())
    assert found.parameters > 0
    if modality == "text":
        assert network.preprocessing["max_length"] == 24
        assert network.weights.name == "model.safetensors.index.json"
    if modality == "audio":
        assert network.preprocessing["sampling_rate"] in (8000, 16000)
    opened = open_network("hf:me/small", found.checksum, Quiet(), use=uses[0])
    # What no engine traces: a Whisper that does not say how long a text may be, and weights in several files.
    assert opened.format == ("torch" if write in (_whisper, _gpt2) else "openvino")
