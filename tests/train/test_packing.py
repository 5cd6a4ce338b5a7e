"""Packed passes against padded ones: the same vectors, gradients and losses; and the next step's data ahead of time."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_train.engine.ahead import Ahead
from llm2comp_train.engine.building import build
from llm2comp_train.engine.machine import load_for_training
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.stages import get_stage
from torch._dynamo.testing import CompileCounter

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import packing
from llm2comp_apps.encoder.backends.packing import pack_encoder
from llm2comp_apps.encoder.backends.tokens import TOKEN_BITS, rounded_tokens
from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.packing import pack, pack_rows, packed_passes
from llm2comp_apps.errors import TrainingError, UsageError

ROWS = [[5, 6, 7], [8, 9], [4, 5, 6, 7, 8, 9, 10, 11, 12], [10], [11, 12, 13]]


@pytest.fixture
def network(settings):
    settings = replace(settings, attention="packed", train_weights="all")
    return build(load_for_training(settings, "cpu"), settings, None, get_stage("align"))


def test_packed_texts_have_the_memory_and_the_gradients_of_padded_ones(network):
    found = []
    for way in (
        lambda: network.memory(*left_pad(ROWS, 0, "cpu")),
        lambda: network.packed_memory(pack_rows(ROWS, 3, 0)),
    ):
        network.zero_grad()
        memory = way()
        memory.float().pow(3).sum().backward()
        gradients = {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}
        found.append((memory.detach(), gradients))
    (padded, one), (packed, other) = found
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)
    assert one.keys() == other.keys() >= {"memory_tokens"}
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_a_text_does_not_see_its_neighbours(network):
    alone = network.packed_memory(pack_rows([ROWS[2]], 3, 0))
    among = network.packed_memory(pack_rows(ROWS, 3, 0))
    torch.testing.assert_close(among[2:3], alone, rtol=1e-4, atol=1e-5)


def test_a_processor_attends_in_float32_whatever_the_products_around_it():
    """Half the time of bfloat16 in the backward pass, and nothing is rounded in between."""
    torch.manual_seed(0)
    rows = [torch.randn(12, 3, 8, dtype=torch.bfloat16) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        found = packing._text_by_text(rows, torch.tensor([0, 5, 12], dtype=torch.int32), 8**-0.5)
        assert found.is_contiguous(), "JetMoE views it"
    wanted = []
    for text in (slice(0, 5), slice(5, 12)):
        query, key, value = (row[text].float().transpose(0, 1) for row in rows)
        wanted.append((torch.softmax(query @ key.transpose(1, 2) * 8**-0.5, -1) @ value).transpose(0, 1))
    assert found.dtype == torch.bfloat16
    # The last bit of bfloat16 may differ where float32 sums in another order.
    torch.testing.assert_close(found, torch.cat(wanted).to(torch.bfloat16), rtol=2**-8, atol=1e-5)


@given(
    st.lists(st.lists(st.integers(3, 99), max_size=40), min_size=1, max_size=20), st.integers(1, 5), st.integers(0, 900)
)
def test_every_token_stands_once_in_its_text(rows, k, least):
    lengths = np.array([len(row) for row in rows])
    texts = pack(np.array([token for row in rows for token in row], int), lengths, k, 0, longest=40, least=least)
    bounds = texts.bounds.tolist()
    assert bounds[-1] == texts.ids.shape[1] > texts.tokens == sum(map(len, rows)) + k * len(rows)
    assert bounds[-1] >= least
    assert bounds == sorted(set(bounds))
    assert max(np.diff(bounds)) <= texts.longest
    for row, start, end, places in zip(rows, bounds, bounds[1:], texts.memory.tolist(), strict=False):
        assert texts.ids[0, start : end - k].tolist() == row
        assert places == list(range(end - k, end))
        assert texts.positions[0, start:end].tolist() == list(range(end - start))


@torch.library.custom_op("llm2comp_test::varlen", mutates_args={})
def flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """What a GPU's kernel is to the compiler: an operation whose inside it does not see."""
    return packing._text_by_text([query, key, value], bounds, query.shape[-1] ** -0.5).contiguous()


@flash.register_fake
def _(query, _key, _value, _bounds):
    return torch.empty_like(query)


def test_a_compiled_body_is_one_graph_for_any_number_of_texts(network, monkeypatch):
    monkeypatch.setattr(packing, "_has_flash", lambda _: True)
    kernel = lambda query, key, value, bounds, *_: flash(query, key, value, bounds)  # noqa: E731
    monkeypatch.setattr(packing, "_kernel_for_this_machine", lambda: kernel)
    packing.register_packed()
    torch._dynamo.reset()
    draw, counter = np.random.default_rng(0), CompileCounter()
    batches = [[draw.integers(3, 99, size).tolist() for size in draw.integers(1, 30, count)] for count in (3, 9, 5)]
    texts = [pack(np.concatenate(rows), np.array([*map(len, rows)]), 3, 0, 30, least=512) for rows in batches]
    with torch.no_grad():
        before = [network.packed_memory(each) for each in texts]
        network.compile_packed(backend=counter, fullgraph=True)
        for each, wanted in zip(texts, before, strict=True):
            torch.testing.assert_close(network.packed_memory(each), wanted, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


def test_a_processor_compiles_layers_for_rows_of_any_size(network):
    """Once, not for each number of texts."""
    torch._dynamo.reset()
    draw, counter = np.random.default_rng(0), CompileCounter()
    batches = [[draw.integers(3, 99, size).tolist() for size in draw.integers(1, 30, count)] for count in (3, 9, 5, 7)]
    texts = [pack_rows(rows, 3, 0) for rows in batches]
    with torch.no_grad():
        before = [network.packed_memory(each) for each in texts]
    for layer in network.encoder.layers:
        layer.compile(backend=counter, dynamic=True)
    counts = []
    for each, wanted in zip(texts, before, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(network.packed_memory(each), wanted, rtol=1e-4, atol=1e-5)
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts[1:] == [counts[1]] * 3, counts


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120))
def test_passes_keep_the_order_and_the_budget(lengths, budget):
    passes = packed_passes(lengths, budget)
    assert [index for part in passes for index in part] == list(range(len(lengths)))
    for part, after in zip(passes, [*passes[1:], None], strict=True):
        used = sum(lengths[index] for index in part)
        assert used <= budget or len(part) == 1
        assert after is None or used + lengths[after[0]] > budget


@pytest.mark.parametrize("stage", ["align", "ucl", "scl"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_run_with_packed_passes_has_the_losses_of_one_with_padded_ones(
    stage, whole, settings, data, tmp_path, deep_encoder_dir
):
    settings = replace(settings, max_steps=4, tokens_per_pass=4096 if whole else 24, tokens_kept=4096 if whole else 1)
    if stage == "align":
        settings = replace(settings, train_weights="all", teacher=str(deep_encoder_dir), maxsim_weight=0.3, lr=1e-3)
    losses = []
    for attention in ("eager", "packed"):
        out = tmp_path / attention
        options = RunOptions(data=[str(data["pairs" if stage == "scl" else "text"])], out=out, device="cpu")
        run_stage(stage, replace(settings, attention=attention), options)
        losses.append([row["loss"] for row in read_metrics(out) if "loss" in row])
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)


def test_what_cannot_be_packed_is_refused(settings, data, tmp_path):
    for stage, changes in (("kl", {}), ("ebar", {}), ("mntp", {})):
        options = RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu")
        with pytest.raises(UsageError, match=r"attention.*packed"):
            run_stage(stage, replace(settings, attention="packed", **changes), options)
    assert not (tmp_path / "run").exists()


def test_a_gpu_without_the_kernel_is_refused(settings, monkeypatch):
    monkeypatch.setattr("llm2comp_train.engine.machine.varlen_kernel", lambda: None)
    with pytest.raises(UsageError, match=r"attention.*before PyTorch 2.10"):
        load_for_training(replace(settings, attention="packed"), "cuda")


def test_a_gpu_whose_kernel_has_no_dropout_is_refused(settings, monkeypatch):
    monkeypatch.setattr("llm2comp_train.engine.machine.varlen_kernel", lambda: pow)
    with pytest.raises(UsageError, match=r"attention_dropout.*must be 0"):
        load_for_training(replace(settings, attention="packed", attention_dropout=0.1), "cuda")


def test_attention_drops_what_it_is_told_to(settings):
    """Two passes differ, as those over padded texts do; without, `ucl` would compare a vector with itself."""
    settings = replace(settings, attention="packed", train_weights="all", attention_dropout=0.3)
    network = build(load_for_training(settings, "cpu"), settings, None, get_stage("ucl"))
    texts = pack_rows(ROWS, 3, 0)
    network.train()
    assert not torch.allclose(network.packed_memory(texts), network.packed_memory(texts), atol=1e-3)
    network.eval()
    assert torch.equal(network.packed_memory(texts), network.packed_memory(texts))


def test_packing_is_known_without_the_kernel_whose_import_takes_as_long_as_torch():
    """Every command that encodes by PyTorch imports it."""
    program = "import sys, llm2comp_apps.encoder.packing; print('torch.nn.attention.varlen' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"


# Token embeddings as they ship


def test_training_reads_the_token_embeddings_that_a_packed_encoder_has(settings):
    settings = replace(settings, train_weights="all", token_bits=4)
    bone = load_for_training(settings, "cpu")
    before = bone.lm.get_input_embeddings().weight.detach().clone()
    network = build(bone, settings, None, get_stage("align"))
    found = network.embed(torch.arange(len(before)))
    assert torch.equal(found, torch.from_numpy(rounded_tokens(before.numpy(), 4)))
    assert not torch.equal(found, before)
    for bits in TOKEN_BITS:
        assert replace(settings, token_bits=bits)
    with pytest.raises(UsageError, match=rf"must be {' or '.join(map(str, TOKEN_BITS))}, not 5"):
        replace(settings, token_bits=5)


def test_rounded_token_embeddings_are_refused_where_something_else_reads_them(settings, data, tmp_path):
    for stage, weights in (("kl", "all"), ("ucl", "adapter"), ("mntp", "all"), ("rerank", "all")):
        changed = replace(settings, token_bits=4, train_weights=weights)
        with pytest.raises(UsageError, match=r"token_bits.*must be 8"):
            run_stage(stage, changed, RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_rounded_token_embeddings_are_not_lost_between_stages(settings, data, tmp_path, deep_encoder_dir):
    encoder = LLM2Comp.from_pretrained(str(deep_encoder_dir), device="cpu", dtype=torch.float32)
    weight = encoder.network.lm.get_input_embeddings().weight  # those of a tiny random network lose much in 4 bits
    weight.data.copy_(torch.from_numpy(rounded_tokens(weight.detach().numpy(), 4)))
    pack_encoder(encoder, tmp_path / "packed", token_bits=4)
    settings = replace(settings, backbone=encoder.settings.backbone, train_weights="all", teacher=str(deep_encoder_dir))
    options = RunOptions(data=[str(data["text"])], out=tmp_path / "run", init=tmp_path / "packed", device="cpu")
    with pytest.raises(TrainingError, match=r"token embeddings in 4 bits; continue with `token_bits=4`"):
        run_stage("align", settings, options)


# Data ahead of time


def test_the_next_step_is_prepared_while_this_one_computes():
    asked, second = [], threading.Event()

    def prepare(step):
        asked.append(step)
        if step == 1:
            second.set()
        return step * 10

    ahead = Ahead(prepare)
    assert ahead(0) == 0
    assert second.wait(10)  # before anyone asked for it
    assert ahead(1) == 10
    assert ahead(7) == 70  # a jump, as after a resume
    assert asked[:2] == [0, 1]
    assert asked.count(1) == 1


def test_what_fails_ahead_of_time_is_raised_when_it_is_asked_for():
    def prepare(step):
        if step == 1:
            raise ValueError("no such step")
        return step

    ahead = Ahead(prepare)
    assert ahead(0) == 0
    with pytest.raises(ValueError, match="no such step"):
        ahead(1)
