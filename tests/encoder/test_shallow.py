"""Encoders of some of the LM's layers: against an LM that has only these, on several architectures."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad, positions
from llm2comp_apps.encoder.probe import probe
from llm2comp_apps.encoder.shallow import check_layers
from llm2comp_apps.errors import EncoderError, UsageError

DEPTH = 6
KEPT = [0, 2, 5]
KINDS = {  # where the layers differ in what they do, the kept ones must differ from the first ones
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen3": {
        "layer_types": ["full_attention", "sliding_attention"] * 3,
        "sliding_window": 5,
        "use_sliding_window": True,
    },
    "gemma": {},
    "gemma2": {"layer_types": ["sliding_attention", "full_attention"] * 3, "sliding_window": 5},
    "gemma3_text": {"layer_types": ["sliding_attention"] * 5 + ["full_attention"], "sliding_window": 5},
    "phi3": {},
    "olmo2": {},
    "smollm3": {"no_rope_layers": [1, 0, 0, 1, 1, 0]},
}
ATTENTION = {"gemma2": "eager"}


def deep_lm(architecture: str):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **KINDS[architecture],
    )
    lm = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION.get(architecture, "sdpa"))
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    return lm.eval().requires_grad_(False)


@pytest.fixture(params=KINDS)
def lm(request):
    return deep_lm(request.param)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 250, (length,), generator=draw).tolist() for length in (4, 19)]
    return left_pad(rows, 0, "cpu")


def lm_of(layers: list[int], lm):
    """A transformers model of its own that has only these layers, made from a configuration."""
    config = copy.deepcopy(lm.config)
    for name in ("layer_types", "no_rope_layers"):
        if getattr(config, name, None):
            setattr(config, name, [getattr(config, name)[number] for number in layers])
    config.num_hidden_layers = len(layers)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=lm.config._attn_implementation)
    state = {}
    for name, tensor in lm.state_dict().items():
        head, mark, rest = name.partition(".layers.")
        if mark:
            number, _, inner = rest.partition(".")
            if int(number) not in layers:
                continue
            name = f"{head}.layers.{layers.index(int(number))}.{inner}"
        state[name] = tensor
    made.load_state_dict(state)
    return made.eval()


@pytest.mark.parametrize("own", [False, True])
def test_it_is_what_an_lm_of_these_layers_computes(lm, batch, own):
    network = CompressionNetwork.fresh(lm, k=4, layers=KEPT, own_layers=own)
    expected = CompressionNetwork(lm_of(KEPT, lm), network.memory_tokens)
    torch.testing.assert_close(network.memory(*batch), expected.memory(*batch), rtol=0, atol=0)
    full = CompressionNetwork(lm, network.memory_tokens)
    assert not torch.allclose(network.memory(*batch), full.memory(*batch), atol=1e-2)
    probe(network, "tiny")


@pytest.mark.parametrize("own", [False, True])
def test_the_decoder_keeps_all_layers_to_the_bit(lm, batch, own):
    ids, mask = batch
    plain = copy.deepcopy(lm)
    network = CompressionNetwork.fresh(lm, k=4, layers=KEPT, own_layers=own)
    if own:  # training its copies changes nothing of the decoder's
        with torch.no_grad():
            for weight in network.layer_weights().values():
                weight.add_(0.1)
    expected = plain.get_decoder()(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).last_hidden_state
    found = network.decode(network.embed(ids), mask)
    assert torch.equal(found[mask.bool()], expected[mask.bool()])


def test_shared_layers_cost_no_parameters_and_own_ones_are_float32_beside_a_half_precision_lm(batch):
    lm = deep_lm("llama")
    shared = CompressionNetwork.fresh(lm, k=4, layers=KEPT)
    assert len(list(shared.parameters())) == len(list(lm.parameters())) + 2
    assert not any(name.startswith("shallow") for name, _ in shared.named_parameters())
    own = CompressionNetwork.fresh(lm.to(torch.bfloat16), k=4, layers=KEPT, own_layers=True)
    names = {name for name, _ in own.named_parameters() if name.startswith("shallow.")}
    assert names == {f"shallow.{name}" for name in own.layer_weights()}
    assert {weight.dtype for weight in own.layer_weights().values()} == {torch.float32}
    assert own.base.layers[0].mlp.up_proj.weight.dtype is torch.bfloat16
    own.layer_weights()["norm.weight"].zero_()
    assert lm.model.norm.weight.all()
    with own.autocast():
        assert own.memory(*batch).dtype is torch.float32


def test_own_layers_train_and_the_lm_does_not(batch):
    network = CompressionNetwork.fresh(deep_lm("llama"), k=4, layers=KEPT, own_layers=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("shallow."))
    network.decode(network.decoder_input(network.memory(*batch))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.shallow.layers.parameters())
    assert all(parameter.grad is None for parameter in network.lm.parameters())


@pytest.mark.parametrize("layers", [[], [0, 6], [-1, 2], [2, 1], [1, 1]])
def test_impossible_layers_are_refused_by_name(layers):
    with pytest.raises(UsageError, match="layers must be ascending numbers from 0 to 5"):
        check_layers(layers, DEPTH)


def test_drop_decoder_forgets_the_other_layers_and_changes_no_vector(lm, batch):
    network = CompressionNetwork.fresh(lm, k=4, layers=KEPT)
    before = network.memory(*batch)
    weights = sum(parameter.numel() for parameter in network.parameters())
    layer = sum(parameter.numel() for parameter in network.base.layers[1].parameters())
    network.drop_decoder()
    assert torch.equal(network.memory(*batch), before)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights - layer * (DEPTH - len(KEPT))
    assert len(network.base.layers) == len(KEPT)
    assert torch.equal(pickle.loads(pickle.dumps(network)).memory(*batch), before)


@pytest.fixture
def saved(tmp_path, tokenizer):
    """``saved("llama", own=True, dtype=...)`` -> network and the checkpoint of it."""

    def save(architecture: str, *, own: bool, dtype: torch.dtype = torch.float32, layers=tuple(KEPT), name="encoder"):
        backbone_dir = tmp_path / f"backbone-{architecture}"
        deep_lm(architecture).save_pretrained(backbone_dir)
        tokenizer.save_pretrained(backbone_dir)
        backbone = load_backbone(str(backbone_dir), device="cpu")
        network = CompressionNetwork.fresh(backbone.lm, 4, layers=layers, own_layers=own)
        if own:
            with torch.no_grad():
                for weight in network.layer_weights().values():
                    weight.copy_((weight + 0.1 * torch.randn_like(weight)).to(dtype))
        settings = checkpoint.EncoderSettings(
            backbone=str(backbone_dir),
            backbone_sha256=backbone.sha256,
            k=4,
            layers=list(layers) if layers is not None else None,
        )
        state = {key: weight.to(dtype) for key, weight in network.layer_weights().items()} if own else None
        checkpoint.write(tmp_path / name, settings, network.memory_state(), None, layers_state=state)
        return network, tmp_path / name

    return save


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("own", [False, True])
def test_a_checkpoint_gives_the_vectors_it_was_written_from(saved, texts, architecture, own, dtype, tmp_path):
    network, directory = saved(architecture, own=own, dtype=dtype)
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    rows = encoder._rows(texts[:1], "")
    expected = network.memory(*left_pad(rows, 0, "cpu")).detach().numpy()
    np.testing.assert_array_equal(encoder.encode_memory(texts[:1]), expected)
    assert len(encoder.network.base.layers) == len(KEPT)
    assert (directory / checkpoint.LAYERS).is_file() is own
    encoder.save_pretrained(tmp_path / "again")
    again = LLM2Comp.from_pretrained(str(tmp_path / "again"), device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    assert again.fingerprint == encoder.fingerprint


def test_own_weights_of_all_layers_need_no_choice(saved, texts):
    network, directory = saved("llama", own=True, layers=None)
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    rows = encoder._rows(texts[:1], "")
    expected = network.memory(*left_pad(rows, 0, "cpu")).detach().numpy()
    np.testing.assert_array_equal(encoder.encode_memory(texts[:1]), expected)


def test_the_fingerprint_follows_layers_and_their_weights(saved):
    prints = [
        LLM2Comp.from_pretrained(str(saved("llama", name=str(index), **given)[1]), device="cpu").fingerprint
        for index, given in enumerate(
            [
                {"own": False, "layers": None},
                {"own": False, "layers": (0, 2, 5)},
                {"own": False, "layers": (0, 3, 5)},
                {"own": True, "layers": (0, 2, 5)},
                {"own": True, "layers": (0, 2, 5), "dtype": torch.float16},
            ]
        )
    ]
    assert len(set(prints)) == len(prints)


def test_an_older_version_refuses_what_it_would_misread(saved):
    _, plain = saved("llama", own=False, layers=None, name="plain")
    assert checkpoint.read_settings(plain).format == checkpoint.read_settings(plain).in_its_format().format == 1
    _, cut = saved("llama", own=False, name="cut")
    assert checkpoint.read_settings(cut).format == 2
    _, own = saved("llama", own=True, layers=None, name="own")
    assert checkpoint.read_settings(own).format == 2


def test_damaged_layers_are_refused_in_one_line(saved):
    def refusal(directory) -> str:
        with pytest.raises(EncoderError) as caught:
            LLM2Comp.from_pretrained(str(directory), device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    _, directory = saved("llama", own=True)
    settings = (directory / "encoder.json").read_text()
    layers = settings[settings.index("    0,") : settings.index("    5") + 5]
    (directory / "encoder.json").write_text(settings.replace(layers, "    0,\n    9"))
    assert "layers must be ascending numbers from 0 to 5, not 0, 9" in refusal(directory)
    (directory / "encoder.json").write_text(settings.replace(layers, '    "first"'))
    assert "layers must be a list of numbers" in refusal(directory)
    (directory / "encoder.json").write_text(settings.replace(layers, "    0,\n    5"))
    assert "do not fit the backbone" in refusal(directory)
    (directory / "encoder.json").write_text(settings)
    (directory / checkpoint.LAYERS).write_bytes((directory / checkpoint.LAYERS).read_bytes()[:100])
    assert "layers.safetensors: missing or damaged" in refusal(directory)
    (directory / checkpoint.LAYERS).unlink()
    assert "layers.safetensors: missing or damaged" in refusal(directory)


def test_a_checkpoint_has_an_adapter_or_layers_and_replaces_the_other(saved, make_checkpoint, tmp_path):
    network, _ = saved("llama", own=True)
    directory = make_checkpoint("llama")
    settings = checkpoint.read_settings(directory)
    with pytest.raises(EncoderError, match="not both"):
        checkpoint.write(tmp_path / "both", settings, network.memory_state(), ({}, {}), layers_state={})
    checkpoint.write(directory, settings, network.memory_state(), None, layers_state=network.layer_weights())
    assert not (directory / checkpoint.ADAPTER_WEIGHTS).exists()
    assert checkpoint.read_settings(directory).own_layers
