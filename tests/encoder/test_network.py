"""The network's invariants on five architectures."""

from __future__ import annotations

import pytest
import torch

from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.network import SPREAD, CompressionNetwork, left_pad, positions, role
from llm2comp_apps.encoder.probe import probe
from llm2comp_apps.errors import EncoderError


@pytest.fixture
def network(backbone_dir):
    return CompressionNetwork.fresh(load_backbone(str(backbone_dir), device="cpu").lm, k=4).requires_grad_(False)


def row(length: int, seed: int = 0) -> list[int]:
    return torch.randint(3, 250, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def test_the_last_token_changes_the_first_state_only_when_bidirectional(network):
    first = row(9)
    other = [*first[:-1], (first[-1] + 1) % 250 + 3]
    embeds = [network.embed(left_pad([tokens], 0, "cpu")[0]) for tokens in (first, other)]
    both = [network.hidden(e, None, causal=False)[:, 0] for e in embeds]
    one = [network.hidden(e, None, causal=True)[:, 0] for e in embeds]
    assert not torch.allclose(both[0], both[1], atol=1e-4)
    assert torch.equal(one[0], one[1])


def test_untrained_memory_tokens_are_as_long_as_what_is_looked_up(network):
    """Gemma's look-up multiplies the table."""
    tokens = network.embed(torch.arange(300))
    shares = network.memory_tokens.norm(dim=1) / tokens.norm(dim=1).mean()
    assert 0.5 < shares.min() <= shares.max() < 2


def test_memory_tokens_see_each_other_and_the_text(network):
    before = network.memory(*left_pad([row(5)], 0, "cpu"))
    network.memory_tokens.data[-1] += 1.0
    after = network.memory(*left_pad([row(5)], 0, "cpu"))
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-5)


def test_padding_and_neighbours_do_not_matter(network):
    rows = [row(length, seed=length) for length in (1, 7, 30, 3)]
    together = network.memory(*left_pad(rows, 0, "cpu"))
    for index, tokens in enumerate(rows):
        alone = network.memory(*left_pad([tokens], 0, "cpu"))[0]
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=1e-5)


def test_a_text_without_tokens_has_memory_too(network):
    together = network.memory(*left_pad([[], row(12)], 0, "cpu"))
    assert torch.isfinite(together).all()
    ids, mask = left_pad([[]], 0, "cpu")
    torch.testing.assert_close(together[0], network.memory(ids, mask)[0], atol=1e-5, rtol=1e-5)


def test_probe_accepts_these_architectures(network):
    probe(network, "tiny")


def test_probe_refuses_a_model_that_ignores_is_causal(network, monkeypatch):
    honest = network.hidden
    monkeypatch.setattr(network, "hidden", lambda embeds, mask, causal: honest(embeds, mask, causal=True))
    with pytest.raises(EncoderError, match="does not take bidirectional attention"):
        probe(network, "tiny")


def test_probe_refuses_a_model_that_reads_padding(network, monkeypatch):
    honest = network.hidden
    monkeypatch.setattr(network, "hidden", lambda embeds, mask, causal: honest(embeds, None, causal=causal))
    with pytest.raises(EncoderError, match="reads the padding"):
        probe(network, "tiny")


def test_probe_asks_in_float32_and_leaves_half_precision_as_it_was(network, monkeypatch):
    """Rounding must not pass for a leak, which happened where a trained encoder was trained on in bfloat16."""
    network.lm.to(torch.bfloat16)
    before = {name: (parameter.data_ptr(), parameter.clone()) for name, parameter in network.named_parameters()}
    seen = set()
    inner = network.base.layers[-1].mlp  # its weights are widened with the layer
    hook = inner.register_forward_pre_hook(
        lambda part, arguments: seen.add((arguments[0].dtype, *{weight.dtype for weight in part.parameters()}))
    )
    probe(network, "tiny")
    hook.remove()
    hidden = network.hidden
    monkeypatch.setattr(network, "hidden", lambda embeds, mask, causal: hidden(embeds, None, causal=causal))
    with pytest.raises(EncoderError, match="reads the padding"):
        probe(network, "tiny")
    assert seen == {(torch.float32, torch.float32)}
    for name, parameter in network.named_parameters():
        assert (name, parameter.data_ptr()) == (name, before[name][0])
        assert torch.equal(parameter, before[name][1])
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.base.modules())


def test_decoder_is_the_frozen_model_to_the_bit(backbone_dir):
    from peft import LoraConfig, get_peft_model

    plain = load_backbone(str(backbone_dir), device="cpu").lm
    adapted = load_backbone(str(backbone_dir), device="cpu").lm
    peft = get_peft_model(adapted, LoraConfig(r=4, target_modules=["o_proj", "down_proj"], lora_dropout=0.5))
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    network = CompressionNetwork.fresh(adapted, k=4).train()
    ids, mask = left_pad([row(6), row(11)], 0, "cpu")
    expected = plain.get_decoder()(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).last_hidden_state
    found = network.decode(network.embed(ids), mask)
    real = mask.bool()
    assert torch.equal(found[real], expected[real])
    encoded = network.hidden(network.embed(ids), mask, causal=True)
    assert not torch.allclose(encoded[real], expected[real], atol=1e-3), "the adapter must be on outside decode()"
    assert network.lm.training


def test_role_is_restored_and_keeps_requires_grad(backbone_dir):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    lm = load_backbone(str(backbone_dir), device="cpu").lm
    get_peft_model(lm, LoraConfig(r=2, target_modules=["o_proj"]))
    layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
    trainable = [parameter.requires_grad for parameter in lm.parameters()]
    with role(lm, adapter=False):
        assert all(layer.disable_adapters for layer in layers)
        assert [parameter.requires_grad for parameter in lm.parameters()] == trainable
    assert layers
    assert not any(layer.disable_adapters for layer in layers)


def test_calibrated_memory_lies_around_its_anchor_as_far_as_tokens_lie_around_theirs(network):
    ids, mask = left_pad([row(6), row(11), row(9, seed=4)], 0, "cpu")
    network.calibrate([(ids[:1], mask[:1]), (ids[1:], mask[1:])], anchor=17)
    memory = network.memory(ids, mask)
    torch.testing.assert_close(network.center, memory.mean(0))
    distance = (network.decoder_input(memory) - network.embed(torch.tensor(17))).square().sum(-1).mean(-1)
    embedded = network.embed(ids)[mask.bool()]
    spread = SPREAD**2 * (embedded - embedded.mean(0)).square().sum(-1).mean()
    torch.testing.assert_close(distance, spread.expand(3), rtol=1e-3, atol=1e-6)


def test_no_gradient_shrinks_what_tells_texts_apart(network):
    ids, mask = left_pad([row(6), row(11), row(9, seed=4)], 0, "cpu")
    network.calibrate([(ids, mask)], anchor=17)
    memory = network.memory(ids, mask).detach().requires_grad_()
    network.decoder_input(memory).pow(3).sum().backward()
    along = (memory.grad * (memory - network.center)).sum((1, 2))
    assert memory.grad.norm() > 0
    torch.testing.assert_close(along, torch.zeros(3), rtol=0, atol=1e-4 * float(memory.grad.norm()))
