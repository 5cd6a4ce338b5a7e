"""LLM2Comp as people use it: load, encode, save, refuse."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint, load_encoder
from llm2comp_apps.encoder.settings import read_settings
from llm2comp_apps.errors import EncoderError, UsageError

ARCHITECTURES = ("llama", "qwen3", "mistral", "gemma3_text", "phi3")


@pytest.fixture(params=ARCHITECTURES)
def encoder(request, make_checkpoint):
    return LLM2Comp.from_pretrained(str(make_checkpoint(request.param)), device="cpu", dtype=torch.float32)


def test_embeddings_are_unit_rows_in_the_order_of_the_texts(encoder, texts):
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for index, text in enumerate(texts):
        np.testing.assert_allclose(vectors[index], encoder.encode([text])[0], atol=1e-5)


def test_batching_does_not_matter(encoder, texts):
    whole = encoder.encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = encoder.encode([texts[index] for index in order], tokens_per_batch=16)
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-5)


def test_bfloat16_vectors_do_not_depend_on_neighbours(make_checkpoint, texts):
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu", dtype=torch.bfloat16)
    whole = encoder.encode(texts)
    for index, text in enumerate(texts):
        assert whole[index] @ encoder.encode([text])[0] > 0.9999


def test_the_embedding_is_the_pooled_memory(encoder, texts):
    memory = encoder.encode_memory(texts)
    assert memory.shape == (len(texts), encoder.k, encoder.dimension)
    mean = memory.mean(axis=1)
    np.testing.assert_allclose(encoder.encode(texts), mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    first = memory[:, 0]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(texts, pooling="first"), expected, atol=1e-5)
    every = encoder.encode(texts, pooling="all")
    np.testing.assert_allclose(every, memory / np.linalg.norm(memory, axis=2, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_pickles_to_identical_vectors(make_checkpoint, texts, dtype):
    directory = make_checkpoint("gemma3_text", float32_layers=1)
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=dtype)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    assert again.fingerprint == encoder.fingerprint


def test_it_survives_the_start_of_a_fresh_process(make_checkpoint, texts):
    encoder = LLM2Comp.from_pretrained(
        str(make_checkpoint("llama", float32_layers=1)), device="cpu", dtype=torch.bfloat16
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_allclose(pool.submit(encoder.encode, texts).result(), encoder.encode(texts), atol=1e-3)


def test_a_family_without_sdpa_encodes_too(make_checkpoint, texts):
    directory = make_checkpoint("gemma2")
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    assert encoder.network.lm.config._attn_implementation == "eager"
    together = encoder.encode(texts)
    np.testing.assert_allclose(together[2], encoder.encode(texts[2:3])[0], atol=1e-5)
    baseline = load_encoder(f"baseline:wmp@{encoder.settings.backbone}", device="cpu")
    assert baseline.encode(texts).shape == together.shape


def test_save_and_load_give_identical_vectors(encoder, texts, tmp_path):
    encoder.save_pretrained(tmp_path / "again")
    again = LLM2Comp.from_pretrained(str(tmp_path / "again"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    assert again.fingerprint == encoder.fingerprint


def test_a_saved_encoder_has_a_tokenizer_and_a_card_and_loads_without_them(make_checkpoint, texts, tmp_path):
    from transformers import AutoTokenizer

    prompts = {"query": "find: ", "document": ""}
    bare = make_checkpoint("llama", prompts=prompts)  # neither
    encoder = LLM2Comp.from_pretrained(str(bare), device="cpu", dtype=torch.float32)
    saved = tmp_path / "saved"
    encoder.save_pretrained(saved)
    card = (saved / "README.md").read_text("utf-8")
    for fact in ("tiny", encoder.settings.backbone, "| 4 |", "| 32 |", "`find: ` before a query", "from_pretrained"):
        assert fact in card
    assert AutoTokenizer.from_pretrained(saved)(texts[0])["input_ids"] == encoder.tokenizer(texts[0])["input_ids"]
    for path in [*saved.glob("*token*.json"), saved / "README.md"]:
        path.unlink()
    without = LLM2Comp.from_pretrained(str(saved), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(without.encode(texts), encoder.encode(texts))
    (saved / "README.md").write_text("a card by hand")
    encoder.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "a card by hand"


def test_a_save_that_fails_leaves_the_encoder_that_was_there(make_checkpoint, texts, tmp_path, monkeypatch):
    saved = tmp_path / "place" / "saved"
    old = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu", dtype=torch.float32)
    old.save_pretrained(saved)
    (saved / "notes").mkdir()
    (saved / "notes" / "encoder.json").write_text("somebody's own")
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    new = LLM2Comp.from_pretrained(str(make_checkpoint("qwen2")), device="cpu", dtype=torch.float32, pooling="first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_card", full)  # nearly all is written by then
        with pytest.raises(OSError, match="No space left"):
            new.save_pretrained(saved)
    assert {path: path.read_bytes() for path in saved.parent.rglob("*") if path.is_file()} == before
    new.save_pretrained(saved)
    again = LLM2Comp.from_pretrained(str(saved), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(texts), new.encode(texts))
    assert (saved / "notes" / "encoder.json").read_text() == "somebody's own"
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_an_encoder_is_saved_where_a_link_leads_and_not_over_a_file(encoder, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    encoder.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "encoder.json").is_file()
    (tmp_path / "file").write_text("a letter")
    with pytest.raises(EncoderError, match="is a file"):
        encoder.save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "a letter"


def test_texts_that_are_cut_off_are_counted(make_checkpoint, make_backbone):
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu", dtype=torch.float32, max_length=20)
    encoder.encode(["a" * 20, "a" * 21, "a" * 300, ""])
    assert (encoder.cut, encoder.room(), encoder.room("hello")) == (2, 20, 15)
    encoder.encode(["a" * 16], prompt="hello")
    assert encoder.cut == 3
    baseline = load_encoder(f"baseline:metaeol@{make_backbone('llama')}", device="cpu", max_length=200)
    baseline.encode(["a" * 200, "a" * 201])
    assert (baseline.cut, baseline.room("hello")) == (1, 195)


def test_the_merged_adapter_equals_the_unmerged_one(make_checkpoint, make_backbone, texts):
    from peft import PeftModel

    from llm2comp_apps.encoder import checkpoint
    from llm2comp_apps.encoder.backbones import load_backbone
    from llm2comp_apps.encoder.network import CompressionNetwork, left_pad

    directory = make_checkpoint("llama")
    merged = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    backbone = load_backbone(str(make_backbone("llama")), device="cpu")
    adapted = PeftModel.from_pretrained(backbone.lm, str(directory)).get_base_model()
    network = CompressionNetwork(adapted, **checkpoint.read_memory(directory, 4)).eval()
    rows = merged._rows(texts[:1], "")
    expected = network.memory(*left_pad(rows, 0, "cpu")).detach().numpy()
    np.testing.assert_allclose(merged.encode_memory(texts[:1]), expected, atol=1e-4)
    untouched = CompressionNetwork(
        load_backbone(str(make_backbone("llama")), device="cpu").lm, **checkpoint.read_memory(directory, 4)
    )
    plain = untouched.eval().memory(*left_pad(rows, 0, "cpu")).detach().numpy()
    assert np.abs(plain - expected).max() > 1e-2, "the adapter must matter for this test to mean anything"


def test_a_stream_gives_what_a_list_gives(encoder, texts):
    blocks = list(encoder.encode_stream(iter(texts), window=3))
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(blocks), encoder.encode(texts), atol=1e-5)


def test_prompts_long_texts_and_no_texts(make_checkpoint):
    encoder = LLM2Comp.from_pretrained(str(make_checkpoint("llama")), device="cpu", dtype=torch.float32, max_length=20)
    np.testing.assert_allclose(encoder.encode(["lo"], prompt="hel"), encoder.encode(["hello"]), atol=1e-6)
    assert not np.allclose(encoder.encode(["lo"]), encoder.encode(["hello"]))
    np.testing.assert_allclose(encoder.encode(["a" * 20 + "tail"]), encoder.encode(["a" * 20]), atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.dimension)
    assert encoder.encode_memory([]).shape == (0, encoder.k, encoder.dimension)
    with pytest.raises(UsageError, match="list of texts"):
        encoder.encode({"not": "a list"})


def test_the_fingerprint_follows_whatever_changes_a_vector(make_checkpoint):
    directory = str(make_checkpoint("llama"))
    first = LLM2Comp.from_pretrained(directory, device="cpu")
    assert LLM2Comp.from_pretrained(directory, device="cpu").fingerprint == first.fingerprint
    assert LLM2Comp.from_pretrained(directory, device="cpu", pooling="merge").fingerprint != first.fingerprint
    assert LLM2Comp.from_pretrained(directory, device="cpu", max_length=7).fingerprint != first.fingerprint
    assert LLM2Comp.from_pretrained(str(make_checkpoint("qwen3")), device="cpu").fingerprint != first.fingerprint
    assert load_encoder(directory, device="cpu").fingerprint == first.fingerprint


def damage_settings(directory, **changes):
    path = directory / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_checkpoints_are_refused_in_one_line(make_checkpoint, make_backbone, tmp_path):
    def refusal(directory) -> str:
        with pytest.raises(EncoderError) as caught:
            LLM2Comp.from_pretrained(str(directory), device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not a directory" in refusal(tmp_path / "nowhere")
    assert "plain LLM" in refusal(make_backbone("llama"))
    directory = make_checkpoint("llama")
    damage_settings(directory, format=99)
    assert "format 99" in refusal(directory)
    damage_settings(directory, format=1, backbone_sha256="0" * 64)
    assert "made for other weights" in refusal(directory)
    (directory / "encoder.json").write_text("{")
    assert "not valid JSON" in refusal(directory)
    directory = make_checkpoint("mistral")
    config = (directory / "adapter_config.json").read_text()
    (directory / "adapter_config.json").write_text("[]")
    assert "adapter cannot be read" in refusal(directory)
    (directory / "adapter_config.json").write_text(config)
    damage_settings(directory, k=5)
    assert "k = 5" in refusal(directory)
    damage_settings(directory, k=4)
    weights = directory / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "adapter cannot be read" in refusal(directory)


@pytest.mark.parametrize(
    ("name", "value", "must_be"),
    [
        ("max_length", "512", "a number from 1 on"),
        ("max_length", 0, "a number from 1 on"),
        ("k", None, "a number from 0 on"),
        ("k", -1, "a number from 0 on"),
        ("prompts", None, "texts by role"),
        ("prompts", {"query": 3}, "texts by role"),
        ("readout", [], "a text"),
        ("backbone", 5, "a text"),
        ("backbone_sha256", None, "a text"),
        ("float32_layers", "x", "a number from 0 on"),
        ("training", [], "an object"),
    ],
)
def test_an_entry_of_no_use_is_named(tmp_path, name, value, must_be):
    settings = {"format": 1, "backbone": "any", "backbone_sha256": "0" * 64, "k": 4}
    (tmp_path / "encoder.json").write_text(json.dumps({**settings, name: value}))
    with pytest.raises(EncoderError, match=rf"encoder\.json: {name} must be {must_be}, not "):
        read_settings(tmp_path)


def test_settings_of_the_first_format_are_read(tmp_path):
    (tmp_path / "encoder.json").write_text('{"format": 1, "backbone": "any", "backbone_sha256": "0", "k": 4}')
    found = read_settings(tmp_path)
    assert (found.k, found.max_length, found.prompts, found.layers) == (4, 512, {}, None)


def test_an_encoder_without_memory_tokens_is_read(tmp_path):
    (tmp_path / "encoder.json").write_text(
        '{"format": 1, "backbone": "any", "backbone_sha256": "0", "k": 0, "readout": "tokens"}'
    )
    assert read_settings(tmp_path).k == 0
