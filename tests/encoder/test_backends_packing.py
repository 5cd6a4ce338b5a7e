"""A packed checkpoint works by itself, in both runtimes, and is one encoder."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.arrays import open_arrays, places
from llm2comp_apps.encoder.backends import load_light
from llm2comp_apps.encoder.backends.packing import pack_encoder
from llm2comp_apps.encoder.layers import prune
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.reconstruction import reconstruct
from llm2comp_apps.errors import EncoderError, UsageError


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def packed(make_checkpoint, tmp_path):
    directory = make_checkpoint("llama", max_length=64, prompts={"query": "query: "})
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    pack_encoder(encoder, tmp_path / "packed")
    return encoder, tmp_path / "packed"


def test_both_runtimes_have_one_encoder(packed, texts):
    source, directory = packed
    light = load_light(str(directory))
    heavy = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    assert light.fingerprint == heavy.fingerprint != source.fingerprint
    assert light.precision == "int8"
    assert light._folder == directory / "graph"
    assert (light.encode(texts) * heavy.encode(texts)).sum(1).min() > 0.995
    assert (light.encode(texts) * source.encode(texts)).sum(1).min() > 0.99


def test_token_embeddings_of_4_bits(packed, make_backbone, in_4_bits, tmp_path, texts):
    source, in_8_bits = packed
    in_4_bits(source)
    manifest = pack_encoder(source, tmp_path / "four", token_bits=4)
    assert manifest.smallest_cosine > 0.97
    light, heavy = load_light(str(tmp_path / "four")), LLM2Comp.from_pretrained(str(tmp_path / "four"), device="cpu")
    assert light.fingerprint == heavy.fingerprint
    pack_encoder(source, tmp_path / "eight")
    assert (tmp_path / "eight/graph/layers.safetensors").read_bytes() == (
        tmp_path / "four/graph/layers.safetensors"
    ).read_bytes()
    assert load_light(str(tmp_path / "eight")).fingerprint != light.fingerprint, "the tokens are others"
    with pytest.raises(UsageError, match="tiny has rounded token embeddings; cut the encoder that it was packed from"):
        prune(heavy, [1])
    whole = LLM2Comp.from_pretrained(str(tmp_path / "four"), device="cpu", dtype=torch.float32)
    beside = LLM2Comp.from_pretrained(
        str(tmp_path / "four"), backbone=str(make_backbone("llama")), device="cpu", dtype=torch.float32
    )
    np.testing.assert_array_equal(beside.encode(texts), whole.encode(texts))
    with pytest.raises(UsageError, match="token_bits must be 4, all that tiny has"):
        pack_encoder(whole, tmp_path / "more")
    ids = torch.arange(40)
    found = heavy.network.embed(ids[None])[0].float().numpy()
    np.testing.assert_allclose(found, light._tokens.look_up(ids.numpy()), atol=1e-6)
    assert (light.encode(texts) * source.encode(texts)).sum(1).min() > 0.97
    sizes = [(folder / "graph/tokens.safetensors").stat().st_size for folder in (tmp_path / "four", in_8_bits)]
    assert sizes[0] < 0.7 * sizes[1]
    with pytest.raises(UsageError, match="token_bits must be 8 or 4, not 5"):
        pack_encoder(source, tmp_path / "five", token_bits=5)
    assert not (tmp_path / "five").exists()


def test_rounded_layers_stay_where_only_the_memory_tokens_learned(packed, make_backbone, tmp_path, texts):
    _, directory = packed
    taught = LLM2Comp.from_pretrained(
        str(directory), device="cpu", dtype=torch.float32, backbone=make_backbone("llama")
    )
    with torch.no_grad():
        taught.network.memory_tokens += 0.1 * torch.randn(taught.network.memory_tokens.shape)
        for layer in taught.network.layer_weights().values():
            layer.copy_(layer.half())  # as a run of training writes them
    pack_encoder(taught, tmp_path / "again")
    pack_encoder(taught, tmp_path / "kept", layers_of=str(directory))
    before, again, kept = (
        folder / "graph/layers.safetensors" for folder in (directory, tmp_path / "again", tmp_path / "kept")
    )
    assert before.read_bytes() == kept.read_bytes() != again.read_bytes()
    light = load_light(str(tmp_path / "kept"))
    assert light.fingerprint != load_light(str(directory)).fingerprint
    assert (light.encode(texts) * taught.encode(texts)).sum(1).min() > 0.99
    assert (light.encode(texts) * load_light(str(directory)).encode(texts)).sum(1).min() < 0.99
    heavy = LLM2Comp.from_pretrained(str(tmp_path / "kept"), device="cpu", dtype=torch.float32)
    assert heavy.fingerprint == light.fingerprint


@pytest.mark.parametrize("stops", [False, True])
def test_rounded_layers_stay_where_the_text_stops_since(packed, make_backbone, tmp_path, texts, stops):
    """Behind there the layers are rounded anew, since they may have learned with the memory tokens."""
    _, directory = packed

    def whole() -> LLM2Comp:
        backbone = make_backbone("llama")
        return LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32, backbone=backbone)

    fitted = reconstruct(whole(), whole(), texts * 2, text_layers=1)
    layers_of = str(directory)
    if stops:
        pack_encoder(fitted, tmp_path / "first", layers_of=layers_of)
        layers_of = str(tmp_path / "first")
        with torch.no_grad():
            for weight in fitted.network.encoder.layers[-1].parameters():
                weight *= 1.1
    pack_encoder(fitted, tmp_path / "kept", layers_of=layers_of)
    before, after = (open_arrays(folder / "graph/layers.safetensors") for folder in (directory, tmp_path / "kept"))
    assert {name for name in after.keys() - before.keys() if not name.startswith("constant.")} == {
        "text.gain", *(f"layers.1.text_{part}.{kind}" for part in ("key", "value") for kind in ("integers", "scales"))
    }  # fmt: skip
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert all(name.startswith(("layers.1.", "constant.")) for name in changed)
    assert "layers.1.down.scales" in changed
    light, heavy = load_light(str(tmp_path / "kept")), LLM2Comp.from_pretrained(str(tmp_path / "kept"), device="cpu")
    assert light.fingerprint == heavy.fingerprint
    for made in (light, heavy):
        assert (made.encode(texts) * fitted.encode(texts)).sum(1).min() > 0.99


def test_other_layers_are_not_taken(packed, make_checkpoint, tmp_path):
    source, directory = packed
    with torch.no_grad():
        next(iter(source.network.layer_weights().values()))[0] *= 1.01
    with pytest.raises(EncoderError, match=r"has other layers than .*packed: more than its memory was trained"):
        pack_encoder(source, tmp_path / "kept", layers_of=str(directory))
    whole = make_checkpoint("llama", max_length=64)
    with pytest.raises(EncoderError, match=r"is not packed: it has no rounded layers"):
        pack_encoder(source, tmp_path / "kept", layers_of=str(whole))
    assert not (tmp_path / "kept").exists()


def test_loading_it_writes_nothing(packed, capfd):
    """No progress bar of another library either, so that a command's messages are its own."""
    capfd.readouterr()
    LLM2Comp.from_pretrained(str(packed[1]), device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
def test_families_with_the_same_parts(make_checkpoint, tmp_path, texts, family):
    source = LLM2Comp.from_pretrained(str(make_checkpoint(family, max_length=64)), device="cpu", dtype=torch.float32)
    pack_encoder(source, tmp_path / "packed")
    heavy = LLM2Comp.from_pretrained(str(tmp_path / "packed"), device="cpu", dtype=torch.float32)
    assert (heavy.encode(texts) * source.encode(texts)).sum(1).min() > 0.99


def test_other_families_are_refused(make_checkpoint, tmp_path):
    source = LLM2Comp.from_pretrained(str(make_checkpoint("phi3", max_length=64)), device="cpu", dtype=torch.float32)
    with pytest.raises(EncoderError, match="tiny cannot be packed: the layers of its backbone have other parts"):
        pack_encoder(source, tmp_path / "packed")
    assert not (tmp_path / "packed" / "encoder.json").exists()


def test_a_projection_of_another_shape_is_refused_in_one_line(make_checkpoint, tmp_path):
    directory = make_checkpoint("minimax", max_length=64)
    source = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    with pytest.raises(EncoderError, match="MiniMaxForCausalLM is built in a way that is not known"):
        pack_encoder(source, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_norms_and_look_ups_that_torch_would_read_otherwise_are_refused(make_checkpoint, tmp_path):
    """Gemma adds 1 to a gain, and multiplies what it looks up: the graph has both in its numbers."""
    source = LLM2Comp.from_pretrained(str(make_checkpoint("gemma", max_length=64)), device="cpu", dtype=torch.float32)
    with pytest.raises(EncoderError, match="the norms or token embeddings of GemmaForCausalLM are not what their weig"):
        pack_encoder(source, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_it_needs_no_backbone_and_no_cache(packed, make_backbone, tmp_path, texts):
    source, directory = packed
    moved = tmp_path / "elsewhere"
    shutil.copytree(directory, moved)
    hidden = tmp_path / "hidden"
    backbone = make_backbone("llama")
    backbone.rename(hidden)
    try:
        program = (
            "import sys, numpy\nfrom llm2comp_apps import load_encoder\n"
            f"vectors = load_encoder({str(moved)!r}, backend='onnx').encode({texts!r})\n"
            f"numpy.save({str(tmp_path / 'vectors.npy')!r}, vectors)\nassert 'torch' not in sys.modules\n"
            f"vectors = load_encoder({str(moved)!r}, backend='torch').encode({texts!r})\n"
            f"numpy.save({str(tmp_path / 'heavy.npy')!r}, vectors)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
    finally:
        hidden.rename(backbone)
    for name in ("vectors", "heavy"):
        assert (np.load(tmp_path / f"{name}.npy") * source.encode(texts)).sum(1).min() > 0.99
    assert not (tmp_path / "cache" / "graphs").exists()


def test_saved_again_it_still_works_by_itself(packed, make_backbone, tmp_path, texts):
    _, directory = packed
    first = LLM2Comp.from_pretrained(str(directory), pooling="first", device="cpu")
    backbone, hidden = make_backbone("llama"), tmp_path / "hidden"
    backbone.rename(hidden)
    try:
        first.save_pretrained(tmp_path / "copy")
        light = load_light(str(tmp_path / "copy"))
        heavy = LLM2Comp.from_pretrained(str(tmp_path / "copy"), device="cpu")
    finally:
        hidden.rename(backbone)
    assert light._folder == tmp_path / "copy" / "graph"
    assert light.fingerprint == heavy.fingerprint == first.fingerprint
    np.testing.assert_array_equal(light.encode(texts), load_light(str(directory), pooling="first").encode(texts))


def test_layers_can_be_cut_from_it(packed, tmp_path, texts):
    _, directory = packed
    short = prune(LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32), [1])
    short.save_pretrained(tmp_path / "short")
    assert not (tmp_path / "short" / "graph").exists()
    again = LLM2Comp.from_pretrained(str(tmp_path / "short"), device="cpu", dtype=torch.float32)
    assert again.layers == [1]
    assert again.fingerprint == short.fingerprint
    assert (again.encode(texts) * short.encode(texts)).sum(1).min() > 0.99  # token embeddings are the backbone's again


def test_damage_is_named_and_never_run(packed):
    _, directory = packed
    path = directory / "graph" / "layers.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 255
    path.unlink()
    path.write_bytes(content)
    for load in (LLM2Comp.from_pretrained, load_light):
        with pytest.raises(EncoderError, match=r"layers\.safetensors: damaged; copy or install this encoder again"):
            load(str(directory))


@pytest.mark.parametrize("name", ["graph.onnx", "layers.safetensors", "tokens.safetensors", "tokenizer.json"])
def test_what_is_missing_is_named_and_nothing_is_made_instead(packed, name, tmp_path):
    _, directory = packed
    (directory / "graph" / name).unlink()
    for load in (LLM2Comp.from_pretrained, load_light, load_encoder):
        with pytest.raises(EncoderError, match=rf"{name}: No such file or directory; copy or install"):
            load(str(directory))
    assert not (tmp_path / "cache" / "graphs").exists()


def test_a_stray_bit_in_the_memory_tokens_is_no_other_encoder(packed, tmp_path):
    """The export has its own copy of them, but torch would run the ones beside it, and export an encoder of these."""
    _, directory = packed
    path = directory / "memory_tokens.safetensors"
    start, length = places(path)["memory_tokens"][2:]
    content = bytearray(path.read_bytes())
    content[start + length // 2] ^= 1
    path.write_bytes(content)
    for load in (LLM2Comp.from_pretrained, load_light, load_encoder):
        with pytest.raises(EncoderError, match=r"its memory tokens or encoder\.json are not those that graph"):
            load(str(directory))
    assert not (tmp_path / "cache" / "graphs").exists()


def test_torch_computes_the_same_with_and_without_the_backbone(packed, make_backbone, texts):
    """What a packed checkpoint carries is the backbone's own: embeddings, tokenizer, shape of the layers."""
    _, directory = packed
    alone = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    beside = LLM2Comp.from_pretrained(
        str(directory), backbone=str(make_backbone("llama")), device="cpu", dtype=torch.float32
    )
    assert alone.fingerprint == beside.fingerprint
    assert (alone.encode(texts) * beside.encode(texts)).sum(1).min() > 0.999
    assert alone.tokenizer(texts)["input_ids"] == beside.tokenizer(texts)["input_ids"]


def test_a_damaged_shape_is_named(packed):
    _, directory = packed
    (directory / "backbone.json").write_text('{"model_type": "llama", "hidden_size": }')
    with pytest.raises(EncoderError, match=r"backbone\.json: missing or damaged"):
        LLM2Comp.from_pretrained(str(directory))
