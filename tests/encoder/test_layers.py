"""Which layers are chosen, against their definitions computed the long way; and what pruning makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.layers import agreement, choose_layers, greedy_removals, influence, prune
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.errors import UsageError

DEPTH = 6
IDLE = 3
"""The layer that is made to change nothing."""


@pytest.fixture(params=["llama", "gemma3_text"])
def architecture(request):
    return request.param


@pytest.fixture
def encoder(architecture, make_deep_checkpoint):
    return LLM2Comp.from_pretrained(str(make_deep_checkpoint(architecture)), device="cpu", dtype=torch.float32)


@pytest.fixture
def make_deep_checkpoint(make_checkpoint, tmp_path, deep_backbone):
    """A checkpoint whose backbone has six layers, and an adapter on all of them but the idle one."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    def make(architecture: str, readout: str = "memory"):
        directory = deep_backbone(architecture)
        backbone = load_backbone(str(directory), device="cpu")
        network = CompressionNetwork.fresh(backbone.lm, 4, seed=3)
        active = [number for number in range(DEPTH) if number != IDLE]
        config = LoraConfig(r=2, lora_alpha=4, target_modules=["o_proj"], layers_to_transform=active)
        adapted = get_peft_model(backbone.lm, config)
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        saved = config.to_dict() | {"target_modules": ["o_proj"], "peft_type": "LORA"}
        saved = {key: value for key, value in saved.items() if value is None or isinstance(value, str | int | list)}
        settings = checkpoint.EncoderSettings(
            backbone=str(directory), backbone_sha256=backbone.sha256, k=4, name="deep", readout=readout
        )
        target = tmp_path / f"deep-{architecture}-{readout}"
        checkpoint.write(target, settings, network.memory_state(), (saved, get_peft_model_state_dict(adapted)))
        return target

    return make


@pytest.fixture
def deep_backbone(tmp_path, tokenizer, tiny_lm_of):
    def make(architecture: str):
        directory = tmp_path / f"deep-backbone-{architecture}"
        lm = tiny_lm_of(architecture, DEPTH)
        with torch.no_grad():
            for name, parameter in lm.model.layers[IDLE].named_parameters():
                if "o_proj" in name or "down_proj" in name:
                    parameter.zero_()
        lm.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory

    return make


def embeddings_without(encoder: LLM2Comp, removed: set[int], texts: list[str]) -> np.ndarray:
    return prune(encoder, [number for number in range(DEPTH) if number not in removed]).encode(texts)


def test_influence_is_one_minus_the_cosine_of_what_goes_in_and_what_comes_out(encoder, texts):
    found = influence(encoder, texts)
    assert found.shape == (DEPTH,)
    sums = np.zeros(DEPTH)
    for text in texts:
        ids, _ = left_pad(encoder._rows([text], ""), 0, "cpu")
        network = encoder.network
        embeds = torch.cat([network.embed(ids), network.memory_tokens[None]], dim=1)
        states = []
        hooks = [
            layer.register_forward_hook(lambda _, given, made, states=states: states.append((given[0], made)))
            for layer in network.base.layers
        ]
        network.hidden(embeds, None, causal=False)
        for hook in hooks:
            hook.remove()
        for index, (before, after) in enumerate(states):
            sums[index] += float((1 - torch.cosine_similarity(before[0, -4:], after[0, -4:], dim=-1)).mean())
    np.testing.assert_allclose(found, sums / len(texts), atol=1e-5)
    assert found[IDLE] == pytest.approx(0, abs=1e-6)
    assert found.argmin() == IDLE


def test_greedy_removal_is_what_trying_every_layer_finds(encoder, texts):
    full = encoder.encode(texts)
    removed: set[int] = set()
    steps = list(greedy_removals(encoder, texts, DEPTH - 1))
    assert steps[0].layer == IDLE
    assert steps[0].cosine == pytest.approx(1, abs=1e-5)
    for step in steps:
        costs = {
            number: float(agreement(full, embeddings_without(encoder, removed | {number}, texts)).mean())
            for number in range(DEPTH)
            if number not in removed
        }
        assert step.layer == max(costs, key=costs.__getitem__)
        assert step.cosine == pytest.approx(costs[step.layer], abs=1e-5)
        removed.add(step.layer)


@pytest.mark.parametrize("readout", ["tokens", "prompts"])
def test_other_readouts_can_be_pruned_too(make_deep_checkpoint, texts, readout):
    encoder = LLM2Comp.from_pretrained(str(make_deep_checkpoint("llama", readout)), device="cpu", dtype=torch.float32)
    assert influence(encoder, texts).argmin() == IDLE
    step = next(greedy_removals(encoder, texts, 1))
    assert (step.layer, step.cosine) == (IDLE, pytest.approx(1, abs=1e-5))
    np.testing.assert_allclose(embeddings_without(encoder, {IDLE}, texts), encoder.encode(texts), atol=1e-5)


def test_both_methods_choose_ascending_numbers_of_the_backbone(encoder, texts):
    seen = []
    greedy = choose_layers(
        encoder, texts, 3, method="greedy", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    strong = choose_layers(encoder, texts, 3, method="influence")
    assert strong == sorted(np.argsort(-influence(encoder, texts))[:3])
    for chosen in (greedy, strong):
        assert len(chosen) == 3
        assert IDLE not in chosen
        assert chosen == sorted(chosen)
    # What is chosen from a pruned encoder is counted as in the backbone.
    again = choose_layers(prune(encoder, greedy), texts, 2)
    assert set(again) < set(greedy)


def test_a_pruned_encoder_is_saved_with_its_part_of_the_adapter(encoder, texts, tmp_path):
    before = encoder.encode(texts)
    pruned = prune(encoder, [0, 2, 5])
    vectors = pruned.encode(texts)
    assert agreement(before, vectors).min() < 0.99
    np.testing.assert_array_equal(encoder.encode(texts), before)
    pruned.save_pretrained(tmp_path / "pruned")
    again = LLM2Comp.from_pretrained(str(tmp_path / "pruned"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(texts), vectors)
    assert again.fingerprint == pruned.fingerprint != encoder.fingerprint
    assert len(again.network.base.layers) == 3
    from safetensors.torch import load_file

    names = load_file(tmp_path / "pruned" / checkpoint.ADAPTER_WEIGHTS)
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"0", "2", "5"}
    twice = prune(again, [0, 5])
    np.testing.assert_allclose(twice.encode(texts), prune(encoder, [0, 5]).encode(texts), atol=1e-6)
    assert twice.settings.layers == [0, 5]
    assert twice.fingerprint == prune(encoder, [0, 5]).fingerprint


def test_other_vectors_are_in_no_space_that_the_whole_was_aligned_to(encoder):
    """So a search of the teacher's index refuses them, see :mod:`llm2comp_apps.encoder.space`."""
    home = {"name": "teacher", "fingerprint": "0" * 32}
    encoder.settings = replace(encoder.settings, space=home)
    assert prune(encoder, [0, 2, 5]).settings.space is None
    assert prune(encoder, encoder.layers, k=1).settings.space is None
    assert encoder.settings.changed(max_length=7).space == home
    assert encoder.settings.changed(pooling="first").space is None


def test_own_layers_are_renumbered(encoder, texts, tmp_path):
    """An encoder with weights of its own, pruned, saved and loaded."""
    state = {name: tensor.clone() for name, tensor in encoder.network.layer_weights().items()}
    checkpoint.write(tmp_path / "own", encoder.settings, encoder.network.memory_state(), None, layers_state=state)
    own = LLM2Comp.from_pretrained(str(tmp_path / "own"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(own.encode(texts), encoder.encode(texts))
    pruned = prune(prune(own, [0, 2, 4, 5]), [0, 4, 5])
    np.testing.assert_array_equal(pruned.encode(texts), prune(encoder, [0, 4, 5]).encode(texts))
    pruned.save_pretrained(tmp_path / "pruned")
    again = LLM2Comp.from_pretrained(str(tmp_path / "pruned"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(texts), pruned.encode(texts))
    assert again.fingerprint == pruned.fingerprint


def test_bfloat16_keeps_its_precision(make_deep_checkpoint, texts):
    encoder = LLM2Comp.from_pretrained(str(make_deep_checkpoint("llama")), device="cpu", dtype=torch.bfloat16)
    pruned = prune(encoder, [0, 2, 5])
    assert pruned.network.compute_dtype is torch.bfloat16
    assert pruned.network.encoder.layers[1] is encoder.network.encoder.layers[2]
    assert next(greedy_removals(encoder, texts, 1)).layer == IDLE


def test_what_cannot_be_chosen_is_refused(encoder, texts):
    for n in (0, 7):
        with pytest.raises(UsageError, match="layers must be from 1 to 6"):
            choose_layers(encoder, texts, n)
    with pytest.raises(UsageError, match="method must be one of influence, greedy"):
        choose_layers(encoder, texts, 2, method="luck")
    with pytest.raises(UsageError, match="texts must hold at least one"):
        choose_layers(encoder, [], 2)
    with pytest.raises(UsageError, match="layers must be ascending numbers from 0 to 5"):
        prune(encoder, [0, 6])
    with pytest.raises(UsageError, match="does not run"):
        prune(prune(encoder, [0, 2, 5]), [0, 3, 5])
    with pytest.raises(UsageError, match="n must be from 0 to 5"):
        next(greedy_removals(encoder, texts, 6))
