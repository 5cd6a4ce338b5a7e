"""What least squares gives back to a pruned encoder: by its definition, and where it must change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import reconstruction
from llm2comp_apps.encoder.layers import agreement, prune
from llm2comp_apps.encoder.reconstruction import check_fitting, reconstruct
from llm2comp_apps.errors import EncoderError, UsageError

DEPTH = 4


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()


def test_an_encoder_that_lacks_nothing_stays_as_it_is(encoder, sentences):
    fitted = reconstruct(encoder, prune(encoder, range(DEPTH)), sentences)
    assert fitted.settings.own_layers
    assert agreement(encoder.encode(sentences), fitted.encode(sentences)).min() > 0.9999  # float16 is what is stored


def test_a_map_that_was_lost_is_found_again(encoder, sentences, monkeypatch):
    monkeypatch.setattr(reconstruction, "RIDGES", (1e-9,))
    damaged = prune(encoder, range(DEPTH))
    own = reconstruction._with_own_layers(damaged)
    damaged.network = own
    wanted = own.encoder.layers[2].mlp.down_proj.weight.clone()
    own.encoder.layers[2].mlp.down_proj.weight.zero_()
    assert agreement(encoder.encode(sentences), damaged.encode(sentences)).mean() < 0.9
    fitted = reconstruct(encoder, damaged, sentences)
    torch.testing.assert_close(fitted.network.encoder.layers[2].mlp.down_proj.weight, wanted, atol=2e-3, rtol=0)
    assert agreement(encoder.encode(sentences), fitted.encode(sentences)).min() > 0.999
    assert not own.encoder.layers[2].mlp.down_proj.weight.any()  # what came in stays as it is


def test_the_change_is_where_the_gradient_of_the_definition_vanishes():
    sums, (values, missing, weights) = sums_of(seed=0)
    change = sums.solve(0.1).T.float().requires_grad_()
    ridge = 0.1 * (weights[..., None] * values.square()).sum((0, 1)).mean()
    kept = (weights * (missing - values @ change.T).square().sum(-1)).sum()
    error = kept + ridge * change.square().sum()
    (gradient,) = torch.autograd.grad(error, change)
    assert gradient.abs().max() < 1e-3
    assert gradient.abs().max() < 1e-3 * (2 * ridge * change).abs().max()
    nothing = (weights * missing.square().sum(-1)).sum()
    assert sums.error(change.detach().T.double()) == pytest.approx((kept - nothing).item(), rel=1e-4)


def test_the_weight_of_the_past_is_chosen_by_texts_that_were_not_learned_from():
    learned, _ = sums_of(seed=0)
    alike, _ = sums_of(seed=0)
    wanted = alike.solve(min(reconstruction.RIDGES)).T
    assert torch.allclose(reconstruction._change(learned, alike, reconstruction.RIDGES), wanted, rtol=1e-3)
    learned, _ = sums_of(seed=0)
    opposite, _ = sums_of(seed=0)
    opposite.moment.neg_()  # whatever helps the one harms the other
    assert not reconstruction._change(learned, opposite, reconstruction.RIDGES).any()


def sums_of(seed: int):
    generator = torch.Generator().manual_seed(seed)
    sums = reconstruction._Sums(torch.nn.Linear(12, 7))
    values, missing = torch.randn(3, 50, 12, generator=generator), torch.randn(3, 50, 7, generator=generator)
    weights = torch.rand(3, 50, generator=generator)
    for row in range(3):
        sums.add(values[row : row + 1], missing[row : row + 1], weights[row : row + 1])
    return sums, (values, missing, weights)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "phi3"])
def test_other_texts_come_nearer_to_where_the_whole_encoder_puts_them(make_encoder, sentences, architecture):
    encoder = make_encoder(architecture)
    learned, others = sentences[:40], sentences[40:]
    cut = prune(encoder, [0, 2])
    before = cut.encode(others)
    seen = []
    fitted = reconstruct(encoder, cut, learned, on_progress=lambda *step: seen.append(step))
    target = encoder.encode(others)
    assert agreement(target, fitted.encode(others)).mean() > agreement(target, before).mean() + 0.1
    np.testing.assert_array_equal(cut.encode(others), before)
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("removed", [0, DEPTH - 1])
def test_the_first_and_the_last_layer_can_be_missing(encoder, sentences, removed):
    cut = prune(encoder, [number for number in range(DEPTH) if number != removed])
    assert closed(encoder, cut, sentences) > 0.4


def test_fewer_memory_tokens_are_fitted_too(encoder, sentences):
    cut = prune(encoder, [0, 1, 3], k=2)
    assert closed(encoder, cut, sentences) > 0.4
    assert reconstruct(encoder, cut, sentences).k == 2


@pytest.mark.parametrize("readout", ["tokens", "prompts"])
def test_other_readouts_are_fitted_too(make_encoder, sentences, readout):
    encoder = make_encoder(readout=readout)
    assert closed(encoder, prune(encoder, [0, 1, 3]), sentences) > 0.4


def closed(encoder: LLM2Comp, cut: LLM2Comp, texts: list[str]) -> float:
    """Share of a cut encoder's distance to the whole one that fitting takes away, on the texts that it learns from."""
    target = encoder.encode(texts)
    before, after = (1 - agreement(target, one.encode(texts)).mean() for one in (cut, reconstruct(encoder, cut, texts)))
    return float(1 - after / before)


def test_how_texts_are_batched_does_not_matter(encoder, sentences, monkeypatch):
    cut = prune(encoder, [0, 2])
    together = reconstruct(encoder, cut, sentences).encode(sentences)
    monkeypatch.setattr(LLM2Comp, "batch_tokens", lambda self, wanted=None: 1)
    alone = reconstruct(encoder, cut, sentences)
    monkeypatch.undo()
    assert agreement(together, alone.encode(sentences)).min() > 0.999


def test_a_fitted_encoder_is_saved_and_cut_again(encoder, sentences, tmp_path):
    fitted = reconstruct(encoder, prune(encoder, [0, 2, 3]), sentences)
    fitted.save_pretrained(tmp_path / "fitted")
    again = LLM2Comp.from_pretrained(str(tmp_path / "fitted"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(sentences), fitted.encode(sentences))
    assert again.fingerprint == fitted.fingerprint != encoder.fingerprint
    assert again.layers == [0, 2, 3]
    twice = reconstruct(again, prune(again, [0, 3]), sentences)
    assert twice.layers == [0, 3]
    target = again.encode(sentences)
    cut = agreement(target, prune(again, [0, 3]).encode(sentences)).mean()
    assert agreement(target, twice.encode(sentences)).mean() > cut


def test_what_cannot_be_fitted_is_refused(make_encoder, encoder, sentences):
    cut = prune(encoder, [0, 2])
    with pytest.raises(UsageError, match="texts must hold at least 5, not 4"):
        reconstruct(encoder, cut, sentences[:4])
    gemma = make_encoder("gemma3_text")
    with pytest.raises(EncoderError, match="its layers change what their feed-forward part adds"):
        reconstruct(gemma, prune(gemma, [0, 2]), sentences)
    prompted = make_encoder(readout="prompts")
    with pytest.raises(UsageError, match="k must stay 4: four shares its memory tokens among several prompts"):
        reconstruct(prompted, prune(prompted, [0, 2], k=2), sentences)
    encoder.network.compute_dtype = torch.bfloat16
    with pytest.raises(UsageError, match="dtype must be float32"):
        reconstruct(encoder, prune(encoder, [0, 2]), sentences)


def test_looking_whether_it_can_be_fitted_changes_nothing(encoder, sentences):
    before = {name: weight.clone() for name, weight in encoder.network.layer_weights().items()}
    check_fitting(encoder, sentences)
    for name, weight in encoder.network.layer_weights().items():
        assert torch.equal(weight, before[name])
