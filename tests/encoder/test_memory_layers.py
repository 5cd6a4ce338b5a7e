"""Layers that only the memory goes through: exact where they can be, independent of neighbours, kept on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint, reconstruction
from llm2comp_apps.encoder.backends.packed import own_weights
from llm2comp_apps.encoder.layers import agreement, greedy_removals, influence, prune
from llm2comp_apps.encoder.memory_layers import KeysAndValues, MemoryLayer, turned
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.reconstruction import check_fitting, reconstruct
from llm2comp_apps.errors import EncoderError, UsageError

DEPTH, K = 4, 4
EXACT = ("llama", "mistral", "qwen2", "phi3", "smollm3", "olmo")  # keys are a linear map of normed states


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()


@pytest.fixture
def stopped(encoder, sentences):
    """Its text goes through two of four layers."""
    return reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=2)


@pytest.mark.parametrize("architecture", EXACT)
def test_in_front_of_the_last_layer_the_text_may_stop_at_no_loss(make_encoder, sentences, architecture, monkeypatch):
    """What the last layer makes of the text's own tokens is never read."""
    monkeypatch.setattr(reconstruction, "TEXT_RIDGES", (1e-7,))
    encoder = make_encoder(architecture)
    fitted = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=DEPTH - 1)
    assert isinstance(fitted.network.encoder.layers[-1], MemoryLayer)
    assert agreement(encoder.encode(sentences), fitted.encode(sentences)).min() > 0.999
    assert fitted.fingerprint != encoder.fingerprint


@pytest.mark.parametrize("length", [0.8, 1.3])
def test_keys_that_positions_lengthen_are_fitted_at_their_length(make_encoder, sentences, monkeypatch, length):
    """As those of YaRN and LongRoPE, whose tables are longer than 1."""
    monkeypatch.setattr(reconstruction, "TEXT_RIDGES", (1e-9,))
    encoder = make_encoder()
    encoder.network.encoder.rotary_emb.attention_scaling = length
    fitted = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=DEPTH - 1)
    assert agreement(encoder.encode(sentences), fitted.encode(sentences)).min() > 0.999


@pytest.mark.parametrize("architecture", ["cohere", "ernie4_5", "glm", "helium"])
def test_keys_that_are_turned_in_another_way_are_refused(make_encoder, sentences, architecture):
    """Neighbouring values of a head are a pair there."""
    encoder = make_encoder(architecture)
    with pytest.raises(EncoderError, match=r"cannot stop before a layer like \w+: positions turn its keys in another"):
        check_fitting(encoder, sentences, None, DEPTH, 2)


def test_linear_attention_is_refused(make_encoder, sentences):
    with pytest.raises(EncoderError, match="cannot stop before a layer like MiniMaxDecoderLayer"):
        check_fitting(make_encoder("minimax"), sentences, None, DEPTH, 2)


def test_each_layer_is_asked_whether_it_turns_keys(make_encoder, sentences, monkeypatch):
    """Some layers of Cohere 2 do not, and nothing but their attention knows."""
    encoder = make_encoder()
    attention = encoder.network.encoder.layers[2].self_attn
    plain = attention.forward

    def unturned(position_embeddings, **named):
        cosines, sines = position_embeddings
        return plain(position_embeddings=(torch.ones_like(cosines), torch.zeros_like(sines)), **named)

    monkeypatch.setattr(attention, "forward", unturned)
    with pytest.raises(EncoderError, match="positions turn its keys in another way"):
        reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=2)


def test_the_maps_are_what_the_layer_would_have_computed(encoder, sentences, monkeypatch):
    monkeypatch.setattr(reconstruction, "TEXT_RIDGES", (1e-9,))
    fitted = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=DEPTH - 1)
    layer = fitted.network.encoder.layers[-1]
    gain = layer.layer.input_layernorm.weight
    for made, own in ((layer.text_key, layer.layer.self_attn.k_proj), (layer.text_value, layer.layer.self_attn.v_proj)):
        assert torch.allclose(made.weight, own.weight * gain, atol=0.02 * own.weight.abs().max())


def test_layers_stay_as_they_are_where_no_other_is_left_out(encoder, sentences):
    before = encoder.network.layer_weights()
    stopped = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=2)
    fewer = reconstruct(encoder, prune(encoder, range(DEPTH), k=2), sentences, text_layers=2)
    found = own_weights(stopped.network.layer_weights())
    assert found.keys() == before.keys()
    assert all(torch.equal(found[name], weight.half().float()) for name, weight in before.items())
    name = "layers.3.mlp.down_proj.weight"
    assert not torch.equal(own_weights(fewer.network.layer_weights())[name], before[name].half().float())


def test_without_its_maps_the_memory_does_not_see_the_text(encoder, sentences):
    """Maps of zeros: keys that attract nothing in particular, and values that add nothing."""
    network = CompressionNetwork(encoder.network.lm, **encoder.network.memory_state()).stop_text(1)
    layer, memory = network.encoder.layers[-1], torch.randn(1, K, encoder_width(encoder))
    positions = tuple(torch.ones(1, 9, 1).expand(1, 9, layer.layer.self_attn.head_dim) for _ in range(2))
    behind = [
        layer(torch.cat([text, memory], 1), position_embeddings=positions, is_causal=False)[:, 5:]
        for text in (torch.randn(1, 5, encoder_width(encoder)), torch.randn(1, 5, encoder_width(encoder)))
    ]
    assert torch.equal(*behind)


def test_the_states_of_the_text_stay_where_it_stopped(stopped, sentences):
    network, seen = stopped.network, []
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    for layer in network.encoder.layers:
        layer.register_forward_hook(lambda _, __, made: seen.append(made))
    network.memory(ids)
    assert torch.equal(seen[1][:, :6], seen[2][:, :6])
    assert torch.equal(seen[1][:, :6], seen[3][:, :6])
    assert not torch.equal(seen[1][:, 6:], seen[2][:, 6:])


def test_only_the_memory_is_computed_behind_it(stopped):
    rows = []
    for layer in stopped.network.encoder.layers[2:]:
        layer.layer.mlp.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[1]))
    stopped.network.memory(torch.tensor([[5, 6, 7, 8, 9, 10]]))
    assert rows == [K, K]


@pytest.mark.parametrize("architecture", [*EXACT, "qwen3"])
def test_neighbours_in_a_batch_change_nothing(make_encoder, sentences, architecture):
    encoder = make_encoder(architecture)
    stopped = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences, text_layers=2)
    together = stopped.encode(sentences)
    alone = np.stack([stopped.encode(text) for text in sentences[:10]])
    assert np.allclose(together[:10], alone, atol=1e-5)


def test_a_checkpoint_gives_the_same_vectors(stopped, sentences, tmp_path):
    stopped.save_pretrained(tmp_path / "kept")
    loaded = LLM2Comp.from_pretrained(str(tmp_path / "kept"), device="cpu", dtype=torch.float32)
    assert loaded.fingerprint == stopped.fingerprint
    assert loaded.network.text_layers == 2
    assert np.array_equal(loaded.encode(sentences), stopped.encode(sentences))
    settings = json.loads((tmp_path / "kept" / "encoder.json").read_text())
    assert settings["text_layers"] == 2
    assert settings["format"] == checkpoint.FORMAT, "an older version would send the text through all layers"


@pytest.mark.parametrize(("change", "reason"), [("two", "must be a number"), (9, "from 1 to 3"), (0, "from 1 to 3")])
def test_a_damaged_number_is_refused(stopped, tmp_path, change, reason):
    stopped.save_pretrained(tmp_path / "kept")
    path = tmp_path / "kept" / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_layers": change}))
    with pytest.raises(EncoderError, match=reason):
        LLM2Comp.from_pretrained(str(tmp_path / "kept"), device="cpu")


def test_pruned_again_it_keeps_its_place(stopped, sentences):
    assert prune(stopped, [0, 1, 3]).network.text_layers == 2
    assert prune(stopped, [1, 2, 3]).network.text_layers == 1
    whole = prune(stopped, [0, 1])
    assert whole.network.text_layers is None
    assert whole.settings.text_layers is None
    with pytest.raises(UsageError, match=r"layers must hold one of 0, 1, which the text goes through"):
        prune(stopped, [2, 3])
    assert prune(stopped, [1, 2, 3]).encode(sentences).shape == (60, encoder_width(stopped))


def test_fewer_memory_tokens_are_fitted_with_it(encoder, sentences):
    fitted = reconstruct(encoder, prune(encoder, range(DEPTH), k=2), sentences, text_layers=2)
    assert fitted.encode(sentences).shape == (60, encoder_width(encoder))
    with pytest.raises(EncoderError, match=r"its text stops in between"):
        check_fitting(fitted, sentences)


def test_fewer_memory_tokens_later(stopped, sentences):
    """The layers count the memory tokens, too."""
    fewer = prune(stopped, range(DEPTH), k=2)
    assert fewer.encode(sentences).shape == (60, encoder_width(stopped))
    assert [layer.k for layer in fewer.network.encoder.layers[2:]] == [2, 2]
    assert [layer.k for layer in stopped.network.encoder.layers[2:]] == [K, K]


def test_measures_of_layers_work_with_it(stopped, sentences):
    assert influence(stopped, sentences).shape == (DEPTH,)
    (removal,) = greedy_removals(stopped, sentences, 1)
    assert removal.cosine < 1


def test_what_cannot_be(encoder, make_encoder, sentences):
    for text_layers in (0, DEPTH, -1):
        with pytest.raises(UsageError, match=r"from 1 to 3"):
            check_fitting(encoder, sentences, None, DEPTH, text_layers)
    with pytest.raises(UsageError, match=r"readout tokens"):
        check_fitting(make_encoder(readout="tokens"), sentences, None, DEPTH, 2)


def test_tokens_are_read_where_the_text_stops(stopped, sentences):
    (found,) = stopped.encode_tokens(sentences[:1])
    assert found.vectors.shape == (len(found.ids), encoder_width(stopped))
    states = []
    hook = stopped.network.encoder.layers[1].register_forward_hook(lambda _, __, made: states.append(made))
    stopped.network.token_states(torch.tensor(found.ids)[None])
    hook.remove()
    assert torch.allclose(torch.nn.functional.normalize(states[0][0], dim=-1), torch.tensor(found.vectors), atol=1e-5)


@pytest.mark.parametrize(("turns", "length"), [(8, 1), (4, 1), (8, 1.2)])
def test_turning_back_is_the_inverse(turns, length):
    keys, angles = torch.randn(2, 3, 5, 8), torch.randn(1, 5, turns // 2)
    positions = tuple(length * torch.cat([table, table], -1) for table in (angles.cos(), angles.sin()))
    assert torch.allclose(turned(turned(keys, positions), positions, back=True), keys, atol=1e-5)
    assert not torch.allclose(turned(keys, positions), keys)
    assert turned(keys, None) is keys


def test_rows_put_in_front_are_attended_to():
    keys, values = torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    cache = KeysAndValues((keys * 2, values + 3))
    both, found = cache.update(keys, values, 0)
    assert both[0, 0, :, 0].tolist() == [2, 2, 1, 1]
    assert found[0, 0, :, 0].tolist() == [3, 3, 0, 0]


def encoder_width(encoder: LLM2Comp) -> int:
    return encoder.network.memory_tokens.shape[1]
