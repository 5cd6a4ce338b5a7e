"""``mntp`` and ``ebar``: losses against slow references, the encoders they make, and contrast from there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from llm2comp_train.data.batches import CompressionBatches, Split, collate
from llm2comp_train.engine.adapters import build_network, trainable
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.losses.ebar import ebar_loss
from llm2comp_train.losses.mntp import mntp_loss
from llm2comp_train.settings import Settings
from peft import PeftModel
from torch.nn.functional import log_softmax, normalize
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.errors import EncoderError, TrainingError

MASK = 12
TEXTS = ["the king and the queen", "atom", "", "light sound of the river and the market in peace"]


def go(stage, settings, data, out, **options):
    kind = "pairs" if stage == "scl" else "text"
    return run_stage(stage, settings, RunOptions(data=[str(data[kind])], out=out, device="cpu", **options))


@pytest.fixture
def make_network(backbone, settings):
    def make(readout, **changes):
        network = build_network(backbone, replace(settings, **changes), None, readout)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        return network

    return make


def changed(split):
    """Places of the masked tokens."""
    return [place for place, token in enumerate(split.target) if split.context[place] != token]


def compare(network, found, wanted):
    """Losses and gradients of two ways to compute them."""
    found.sum().backward()
    gradients = {name: parameter.grad for name, parameter in trainable(network).items() if parameter.grad is not None}
    network.zero_grad()
    wanted.sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert sum("lora_" in name for name in gradients) > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, network.get_parameter(name).grad, rtol=1e-3, atol=1e-5, msg=name)
        assert gradient.abs().sum() > 0, name


def test_mntp_equals_one_text_at_a_time_with_full_logits(make_network):
    network = make_network("tokens")
    splits = [
        Split([5, MASK, 7, MASK, 9], [5, 6, 7, 8, 9], 0),
        Split([4, MASK], [4, 11], 1),
        Split([10, 11, 10, 14, 15, MASK, 6], [10, 11, 10, 14, 15, 5, 6], 2),
    ]
    wanted = []
    for split in splits:
        ids = torch.tensor([split.context])
        logits = network.lm(ids, is_causal=False, use_cache=False).logits[0]
        log_p = [log_softmax(logits, -1)[place - 1, split.target[place]] for place in changed(split)]
        wanted.append(-torch.stack(log_p).mean())
    found = mntp_loss(network, collate(splits, 0, torch.device("cpu")), chunk=2)
    compare(network, found, torch.stack(wanted))


def test_ebar_equals_two_passes_one_text_at_a_time(make_network):
    network = make_network("prompts", k=5)
    splits = [Split([5, 6, 7, 8, 9], [10, 11], 0), Split([4, 5], [6, 6, 8, 9, 10], 1), Split([12], [], 2)]
    tokenizer = AutoTokenizer.from_pretrained(network.lm.config.name_or_path)
    embed = network.lm.get_input_embeddings()
    wanted = []
    for split in splits:
        total = torch.zeros(())
        parts = [
            (" The original sentence: ", network.memory_tokens[:3], split.context),
            (" The next sentence: ", network.memory_tokens[3:], split.target),
        ]
        for prompt, tokens, bag in parts:
            before = torch.tensor(split.context + tokenizer(prompt, add_special_tokens=False)["input_ids"])
            embeds = torch.cat([embed(before), tokens])[None]
            states = network.lm.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state[0]
            logits = log_softmax(network.lm.lm_head(states[-len(tokens) :].mean(0)), -1)
            total = total - sum(logits[token] for token in bag) / max(1, len(bag))
        wanted.append(total)
    batch = collate(splits, 0, torch.device("cpu"))
    found = ebar_loss(network, batch, network.memory(batch.context, batch.context_mask), chunk=2)
    compare(network, found, torch.stack(wanted))


class OneText:
    """A store with a single row of token ids."""

    def __init__(self, length):
        self.length = length

    def lengths(self):
        return np.array([self.length] * 20)

    def texts(self, row):
        return [row]

    def ids(self, _text):
        return list(range(100, 100 + self.length))


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 99))
@hypothesis_settings(max_examples=60, deadline=None)
def test_masks_spare_the_first_token_and_keep_to_their_share(length, share, seed):
    settings = Settings(mask_share=share, validation_texts=2, batch_size=2, context="16", continuation=16)
    batches = CompressionBatches(OneText(length), settings, mask_id=7)
    split = batches.split(0, np.random.default_rng(seed))
    assert split.target == list(range(100, 100 + min(length, 32)))
    masked = changed(split)
    assert all(split.context[place] == 7 for place in masked)
    assert 0 not in masked
    assert len(masked) == max(1, round(share * (len(split.target) - 1)))
    assert batches.split(0, np.random.default_rng(seed)) == split
    assert batches.validation() == batches.validation()


def merged(backbone_dir, directory):
    """The backbone with the checkpoint's adapter, by peft alone."""
    lm = AutoModelForCausalLM.from_pretrained(backbone_dir, attn_implementation="eager")
    return PeftModel.from_pretrained(lm, str(directory)).merge_and_unload(), AutoTokenizer.from_pretrained(backbone_dir)


def test_an_mntp_checkpoint_encodes_to_the_mean_over_the_texts_states(settings, data, backbone_dir, tmp_path):
    directory = go("mntp", settings, data, tmp_path / "run")
    encoder = load_encoder(str(directory), device="cpu", dtype=torch.float32)
    lm, tokenizer = merged(backbone_dir, directory)
    wanted = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"] or [tokenizer.pad_token_id]
        wanted.append(
            lm.model(torch.tensor([ids]), is_causal=False, use_cache=False).last_hidden_state[0].mean(0).detach()
        )
    np.testing.assert_allclose(encoder.encode(TEXTS), normalize(torch.stack(wanted), dim=-1).numpy(), atol=2e-5)
    assert encoder.encode([""]).shape == (1, 32)
    assert encoder.k == 1
    assert encoder.encode_memory(TEXTS).shape == (4, 1, 32)
    assert encoder.settings.k == 0


def test_an_ebar_checkpoint_encodes_to_the_mean_over_both_prompts(settings, data, backbone_dir, tmp_path):
    directory = go("ebar", replace(settings, k=4), data, tmp_path / "run")
    encoder = load_encoder(str(directory), device="cpu", dtype=torch.float32)
    lm, tokenizer = merged(backbone_dir, directory)
    tokens = encoder.network.memory_tokens
    wanted = []
    for text in TEXTS:
        states = []
        for prompt, own in ((" The original sentence: ", tokens[:2]), (" The next sentence: ", tokens[2:])):
            ids = tokenizer(text)["input_ids"] + tokenizer(prompt)["input_ids"]
            embeds = torch.cat([lm.get_input_embeddings()(torch.tensor(ids)), own])[None]
            states.append(lm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[0, -2:])
        wanted.append(torch.cat(states).mean(0).detach())
    np.testing.assert_allclose(encoder.encode(TEXTS), normalize(torch.stack(wanted), dim=-1).numpy(), atol=2e-5)
    assert encoder.encode_memory(TEXTS).shape == (4, 4, 32)


@pytest.mark.parametrize("adapting", ["mntp", "ebar"])
@pytest.mark.parametrize("contrast", ["ucl", "scl"])
def test_contrast_goes_on_from_a_comparator(adapting, contrast, settings, data, tmp_path):
    first = LLM2Comp.from_pretrained(str(go(adapting, settings, data, tmp_path / "a")), device="cpu")
    start = replace(settings, max_steps=1, lr=1e-12)
    unchanged = go(contrast, start, data, tmp_path / "b", init=tmp_path / "a")
    second = LLM2Comp.from_pretrained(str(unchanged), device="cpu")
    assert second.settings.readout == first.settings.readout != "memory"
    np.testing.assert_allclose(second.encode(TEXTS), first.encode(TEXTS), atol=1e-3)
    moved = LLM2Comp.from_pretrained(str(go(contrast, settings, data, tmp_path / "c", init=unchanged)), device="cpu")
    assert np.abs(moved.encode(TEXTS) - first.encode(TEXTS)).max() > 1e-2


def test_a_readout_of_a_later_version_is_refused(settings, data, tmp_path):
    directory = go("mntp", replace(settings, max_steps=1), data, tmp_path / "mntp")
    path = directory / "encoder.json"
    path.write_text(path.read_text("utf-8").replace('"tokens"', '"telepathy"'), "utf-8")
    with pytest.raises(EncoderError, match="readout 'telepathy' is unknown"):
        load_encoder(str(directory), device="cpu")


def test_a_stage_with_memory_cannot_go_on_from_one_without(settings, data, tmp_path):
    go("mntp", settings, data, tmp_path / "mntp")
    with pytest.raises(TrainingError, match="reads its vectors from tokens; this stage needs memory"):
        go("kl", settings, data, tmp_path / "kl", init=tmp_path / "mntp")
