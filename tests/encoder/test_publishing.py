"""Exported folders: they are the encoder, need nothing of ours, and are refused where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp, export_model
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.backends import load_light
from llm2comp_apps.encoder.backends.packing import pack_encoder
from llm2comp_apps.encoder.layers import prune
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.publishing import alone, comparison, export
from llm2comp_apps.encoder.publishing.card import export_card
from llm2comp_apps.errors import EncoderError, UsageError

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "smollm3")
"""Gemma multiplies its embeddings, some of the others have layers of several kinds."""


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def in_process(monkeypatch):
    """Compares in this process: importing sentence-transformers takes seconds; one test has a process of its own."""

    def compare(folder, kind, texts, expected):
        return comparison.compared(texts, alone.vectors_of(str(folder), kind, texts), expected)

    monkeypatch.setattr(export, "compare", compare)


def load(folder: Path | str) -> LLM2Comp:
    return LLM2Comp.from_pretrained(str(folder), device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(make_checkpoint, tmp_path, in_process, family):
    directory = make_checkpoint(family, max_length=40, prompts={"query": "query: "})
    report = export_model(str(directory), tmp_path / "out", texts=12)
    assert report.comparison.texts == 13
    assert report.comparison.smallest_cosine > 0.999999
    assert report.comparison.largest_difference < 1e-5


def test_the_folder_is_plain_and_says_what_it_is(make_checkpoint, tmp_path, in_process, texts):
    from sentence_transformers import SentenceTransformer

    directory = make_checkpoint("llama", max_length=40, prompts={"query": "query: "})
    shown = "![A curve](curve.png) ![Elsewhere](../secret.png) ![Lost](lost.png)"
    (directory / "README.md").write_text(f"---\nlicense: apache-2.0\n---\n# An encoder\n{shown}\n")
    (directory / "curve.png").write_bytes(b"a picture")
    (directory.parent / "secret.png").write_bytes(b"not beside the card")
    report = export_model(str(directory), tmp_path / "out", texts=2)
    folder = tmp_path / "out"
    assert not list(folder.rglob("*.py"))
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["is_causal"]) == (["LlamaModel"], False)
    assert "auto_map" not in config
    assert not (folder / "chat_template.jinja").exists()
    record = json.loads((folder / export.RECORD).read_text())
    assert record["fingerprint"] == load(directory).fingerprint
    assert report.size > 1000
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ")
    assert '"sentence-transformers"' in card
    assert 'license: "apache-2.0"' in card, "as the encoder's own card says"
    assert (folder / "ENCODER.md").read_text() == (directory / "README.md").read_text(), "the card says more"
    assert "(ENCODER.md)" in card
    assert [path.name for path in folder.glob("*.png")] == ["curve.png"]

    model, encoder = SentenceTransformer(str(folder), device="cpu"), load(directory)
    assert model.similarity_fn_name == "cosine"
    assert model.max_seq_length == 44
    asked = model.encode_query(["how do cells divide"])
    np.testing.assert_allclose(asked, encoder.encode(["how do cells divide"], prompt="query: "), atol=1e-5)
    np.testing.assert_allclose(model.encode_document(texts), encoder.encode(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("license: other\nlicense_name: see-card", ["see-card", "ENCODER.md"]),
        ("license: other\nlicense_name: mine\nlicense_link: TERMS", ["mine", "TERMS"]),
        ("tags: [text]", [None, None]),
    ],
)
def test_terms_of_its_own_are_pointed_at(make_checkpoint, tmp_path, lines, said):
    directory = make_checkpoint("llama", max_length=40)
    (directory / "README.md").write_text(f"---\n{lines}\n---\n# An encoder\n")
    settings = load(directory).settings
    card = export_card(settings, "onnx", 8, where="here", own_card=directory)
    front = dict(line.split(": ", 1) for line in card.split("---\n")[1].splitlines())
    wanted = dict(zip(("license_name", "license_link"), map(json.dumps, said), strict=True))
    assert {key: front.get(key, "null") for key in wanted} == wanted


def test_a_process_of_its_own_checks_it(make_checkpoint, tmp_path):
    """The real thing: neither this package nor trust in remote code takes part."""
    report = export_model(str(make_checkpoint("llama", max_length=40)), tmp_path / "out", texts=4)
    assert report.comparison.smallest_cosine > 0.999999


def test_a_folder_that_is_not_the_encoder_is_never_written(make_checkpoint, tmp_path, in_process, monkeypatch):
    directory = str(make_checkpoint("llama", max_length=40))
    earlier = export_model(directory, tmp_path / "out", texts=2)

    def causal(network, ids, folder, dtype):
        write(network, ids, folder, dtype)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"is_causal": True}))

    from llm2comp_apps.encoder.publishing import body

    write = body.write_body
    monkeypatch.setattr(body, "write_body", causal)
    with pytest.raises(EncoderError, match="gives other vectors than the encoder: the cosine is"):
        export_model(directory, tmp_path / "out", texts=12)
    assert json.loads((tmp_path / "out" / export.RECORD).read_text())["size"] == earlier.size
    with pytest.raises(EncoderError, match=r"other vectors .* in config\.json$"):
        export_model(directory, tmp_path / "new", texts=12)
    with pytest.raises(EncoderError, match=r"other vectors .*; `dtype=float32` keeps the weights as they are$"):
        export_model(directory, tmp_path / "new", texts=12, dtype="float16")
    assert not (tmp_path / "new").exists()


def test_what_does_not_load_is_named(tmp_path):
    with pytest.raises(EncoderError, match=r"does not load by itself: .+"):
        comparison.compare(tmp_path / "nothing", "onnx", ["a"], np.ones((1, 4), np.float32))


def test_shapes_are_compared_too():
    with pytest.raises(EncoderError, match=r"shape \(1, 3\), the encoder \(1, 4\)"):
        comparison.compared(["a"], np.ones((1, 3), np.float32), np.ones((1, 4), np.float32))


@pytest.mark.parametrize("family", ["llama", "smollm3", "gemma3_text"])
def test_shallow_encoders(make_checkpoint, tmp_path, in_process, family):
    shallow = prune(load(make_checkpoint(family, max_length=40)), [1])
    shallow.save_pretrained(tmp_path / "shallow")
    export_model(str(tmp_path / "shallow"), tmp_path / "out", texts=12)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 1


@pytest.mark.parametrize("token_bits", [8, 4])
def test_packed_encoders(make_checkpoint, in_4_bits, tmp_path, in_process, token_bits):
    """Rounded weights are the encoder's own: multiplied out, they give the very vectors of torch."""
    source = prune(load(make_checkpoint("llama", max_length=40)), [1])
    in_4_bits(source)
    pack_encoder(source, tmp_path / "packed", token_bits=token_bits)
    report = export_model(str(tmp_path / "packed"), tmp_path / "out", texts=12)
    assert report.comparison.smallest_cosine > 0.999999
    light = export_model(str(tmp_path / "packed"), tmp_path / "graph", format="onnx", texts=12)
    assert light.dtype == "int8"
    assert light.comparison.smallest_cosine > 0.9999


def test_a_sign_of_texts_does_not_become_special_because_it_has_the_first_place(tiny_lm_of, tmp_path, in_process):
    """As "!" in the vocabularies of GPT-2, Qwen and Llama 3, whose special tokens stand behind all others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, "!!", "!="])}
    assert vocabulary["!"] == 0
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("!", "!"), ("!", "=")]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    ends = {"eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **ends).save_pretrained(tmp_path / "backbone")
    tiny_lm_of("llama", 2).save_pretrained(tmp_path / "backbone")
    bone = load_backbone(str(tmp_path / "backbone"), device="cpu")
    described = {"backbone": str(tmp_path / "backbone"), "backbone_sha256": bone.sha256, "k": 4, "max_length": 40}
    source = LLM2Comp(CompressionNetwork.fresh(bone.lm, 4), bone.tokenizer, checkpoint.EncoderSettings(**described))
    pack_encoder(source, tmp_path / "packed")
    packed = load(tmp_path / "packed")
    texts = ["hello!!", "a != b", "wow ! yes", "plain"]
    assert packed.tokenizer.batch_decode(packed.tokenizer(texts)["input_ids"], skip_special_tokens=True) == texts
    export_model(str(tmp_path / "packed"), tmp_path / "out", texts=12)
    ids = AutoTokenizer.from_pretrained(str(tmp_path / "out"))(texts)["input_ids"]
    assert [row[:-4] for row in ids] == [packed.tokenizer(text)["input_ids"] for text in texts]


@pytest.fixture
def twelve_layers(tiny_lm_of, tokenizer, tmp_path):
    """An encoder that kept twelve of fourteen layers."""
    tiny_lm_of("llama", 14).save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    backbone = load_backbone(str(tmp_path / "backbone"), device="cpu")
    settings = checkpoint.EncoderSettings(
        backbone=str(tmp_path / "backbone"), backbone_sha256=backbone.sha256, k=4, max_length=40, name="deep"
    )
    network = CompressionNetwork.fresh(backbone.lm, 4, seed=3)
    checkpoint.write(tmp_path / "deep", settings, network.memory_state(), None)
    return prune(load(tmp_path / "deep"), [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13])


@pytest.mark.parametrize("stored", ["int8", "float16"])
def test_twelve_layers_whose_weights_are_stored_in_few_bits(twelve_layers, tmp_path, in_process, stored):
    from llm2comp_apps.encoder import checkpoint

    if stored == "int8":
        pack_encoder(twelve_layers, tmp_path / "shallow")
    else:
        weights = {name: weight.half() for name, weight in twelve_layers.network.layer_weights().items()}
        memory = twelve_layers.network.memory_state()
        checkpoint.write(tmp_path / "shallow", twelve_layers.settings, memory, None, layers_state=weights)
    for dtype in ("float32", "float16"):
        report = export_model(str(tmp_path / "shallow"), tmp_path / dtype, dtype=dtype, texts=12)
        assert report.comparison.smallest_cosine > (0.999999 if dtype == "float32" else 0.9999)
    assert json.loads((tmp_path / "float32" / "config.json").read_text())["num_hidden_layers"] == 12
    graph = export_model(str(tmp_path / "shallow"), tmp_path / "graph", format="onnx", texts=12)
    assert graph.comparison.smallest_cosine > 0.999


def test_half_the_size(make_checkpoint, tmp_path, in_process):
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer

    directory = str(make_checkpoint("llama", max_length=40))
    report = export_model(directory, tmp_path / "out", dtype="float16", texts=12)
    assert report.comparison.smallest_cosine > 0.9999
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert next(model.parameters()).dtype is torch.float32, "stored in half precision, computed in float32"


def test_memory_vectors(make_checkpoint, tmp_path, in_process, texts):
    from sentence_transformers import MultiVectorEncoder

    directory = make_checkpoint("llama", max_length=40, prompts={"query": "query: "})
    report = export_model(str(directory), tmp_path / "out", multi_vector=True, texts=12)
    assert report.comparison.smallest_cosine > 0.999999
    model, encoder = MultiVectorEncoder(str(tmp_path / "out"), device="cpu"), load(directory)
    for role, prompt in (("query", "query: "), ("document", None)):
        found = getattr(model, f"encode_{role}")(["some text", "another one"], convert_to_numpy=True)
        expected = encoder.encode(["some text", "another one"], prompt=prompt, pooling="all")
        np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["sentence-transformers", "onnx", "multi-vector"])
def test_names_of_tokens_in_a_text_are_what_they_are_to_the_encoder(make_checkpoint, tmp_path, in_process, kind):
    """Of the memory tokens plain text; of the backbone's own tokens these tokens, as its tokenizer has it."""
    directory = make_checkpoint("llama", max_length=40)
    texts = ["a <|memory_0|> b", "<|memory_3|>", "a </s> b<s>", "</s><|memory_1|><|memory_9|>", "plain"]
    several = kind == "multi-vector"
    form = "sentence-transformers" if several else kind
    export_model(str(directory), tmp_path / "out", format=form, dtype="float32", multi_vector=several, texts=2)
    encoder = load(directory)
    ids = encoder.tokenizer(texts)["input_ids"]
    assert all(number < 259 for row in ids for number in row), "no row of a memory token"
    expected = encoder.encode(texts, pooling="all" if several else None)
    np.testing.assert_allclose(alone.vectors_of(str(tmp_path / "out"), kind, texts), expected, atol=1e-4)


def test_nothing_and_an_empty_text_are_encoded_by_an_export(make_checkpoint, tmp_path, in_process):
    from sentence_transformers import SentenceTransformer

    directory = make_checkpoint("llama", max_length=40)
    export_model(str(directory), tmp_path / "graph", format="onnx", texts=2)
    export_model(str(directory), tmp_path / "native", texts=2)
    model = SentenceTransformer(str(tmp_path / "native"), device="cpu")
    for encode in (lambda texts: alone.vectors_of(str(tmp_path / "graph"), "onnx", texts), model.encode):
        assert len(encode([])) == 0
        np.testing.assert_allclose(np.linalg.norm(encode(["", "a"]), axis=1), 1, atol=1e-5)
    assert alone.vectors_of(str(tmp_path / "graph"), "onnx", []).shape == (0, 32)


def test_encoders_that_read_the_text_itself(make_checkpoint, tmp_path, in_process):
    directory = make_checkpoint("llama", max_length=40, readout="tokens")
    report = export_model(str(directory), tmp_path / "out", texts=12)
    assert report.comparison.smallest_cosine > 0.999999
    with pytest.raises(EncoderError, match="readout tokens has no memory vectors"):
        export_model(str(directory), tmp_path / "several", multi_vector=True)


def test_what_no_module_says_is_refused_by_name(make_checkpoint, tmp_path):
    directory = make_checkpoint("llama", k=2, readout="prompts")
    with pytest.raises(EncoderError, match="readout prompts reads a text in two passes"):
        export_model(str(directory), tmp_path / "out")
    with pytest.raises(EncoderError, match="pooling merge has no module"):
        export_model(f"{make_checkpoint('llama')}@merge", tmp_path / "out")
    with pytest.raises(EncoderError, match="pooling merge has no graph"):
        export_model(f"{make_checkpoint('llama')}@merge", tmp_path / "out", format="onnx")
    with pytest.raises(UsageError, match="encoder must be a checkpoint of ours, not st:some"):
        export_model("st:some", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "gguf"}, "format must be sentence-transformers or onnx, not 'gguf'"),
        ({"dtype": "int8"}, "dtype must be float32 or float16 for sentence-transformers, not 'int8'"),
        ({"dtype": "float16", "format": "onnx"}, "dtype must be int8 or float32 for onnx, not 'float16'"),
        ({"multi_vector": True, "format": "onnx"}, "multi_vector is for sentence-transformers"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        export_model("default", tmp_path / "out", **settings)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something that is no export"):
        export_model("default", tmp_path / "full")
    with pytest.raises(UsageError, match=r"thesis.txt is a file"):
        export_model("default", tmp_path / "full" / "thesis.txt")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("dtype", "pooling"), [(None, "mean"), ("float32", "first")])
def test_a_graph_with_its_example(make_checkpoint, tmp_path, in_process, texts, dtype, pooling):
    directory = make_checkpoint("llama", max_length=40, prompts={"query": "query: "})
    report = export_model(f"{directory}@{pooling}", tmp_path / "out", format="onnx", dtype=dtype, texts=12)
    assert report.dtype == (dtype or "int8")
    assert report.comparison.smallest_cosine > 0.99999
    light = load_light(str(directory), pooling=pooling, precision=report.dtype)
    program = (
        f"import sys, json, numpy; sys.path.insert(0, {str(tmp_path / 'out')!r}); import example\n"
        f"numpy.save({str(tmp_path / 'v.npy')!r}, example.encode({texts!r}, 'query'))\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), light.encode(texts, prompt="query: "), atol=1e-4)
    assert not {"torch", "transformers", "llm2comp_apps"} & set(json.loads(done.stdout))
    example = (tmp_path / "out" / "example.py").read_text()
    assert len([line for line in example.splitlines() if line.strip()]) <= 21


def test_rows_beyond_the_tokenizer(make_checkpoint, tmp_path, in_process):
    """A vocabulary of 300 rows and 259 tokens: the memory tokens take rows that no token has."""
    export_model(str(make_checkpoint("llama", max_length=40)), tmp_path / "out", texts=2)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 300
