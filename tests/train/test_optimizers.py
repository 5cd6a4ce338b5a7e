"""Muon beside AdamW: whose parameters are whose, how large a step is, and that a resumed run goes on as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from llm2comp_train.engine.adapters import trainable
from llm2comp_train.engine.building import build
from llm2comp_train.engine.machine import layers_of, load_for_training
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.optimizers import optimizers_of
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.stages import get_stage

from llm2comp_apps.errors import UsageError

RATE = 0.01


@pytest.fixture
def muon(settings, deep_encoder_dir):
    return replace(settings, optimizer="muon", train_weights="all", teacher=str(deep_encoder_dir))


def prepared(settings):
    network = build(load_for_training(settings, "cpu"), settings, None, get_stage("align"))
    return network, trainable(network)


def steps(network, parameters, settings, count=1):
    """Move by the same gradients; returns the parameters before."""
    before = {name: each.detach().clone() for name, each in parameters.items()}
    optimizers = optimizers_of(network, parameters.values(), layers_of(network), settings)
    for number in range(count):
        torch.manual_seed(number)
        for each in parameters.values():
            each.grad = torch.randn_like(each) * 10 ** float(torch.randn(()))  # of any size
        optimizers.step(RATE)
        optimizers.zero_grad()
    assert all(each.grad is None for each in parameters.values())
    return before


def test_matrices_of_layers_take_steps_with_singular_values_that_are_alike(muon):
    network, parameters = prepared(muon)
    before = steps(network, parameters, muon)
    seen = 0
    for name, parameter in parameters.items():
        change = (parameter.detach() - before[name]).float()
        if parameter.ndim != 2 or "." not in name:
            # AdamW's first step has the size of the rate, whatever the gradient's.
            torch.testing.assert_close(change.abs(), torch.full_like(change, RATE), rtol=1e-3, atol=1e-6)
            continue
        seen += 1
        values = torch.linalg.svdvals(change) / RATE
        size = 0.2 * max(change.shape) ** 0.5
        assert 0.6 * size < values.median() <= values.max() < 1.3 * size, name  # the least of a square may be smaller
        assert 0.15 < change.square().mean().sqrt() / RATE < 0.25  # where AdamW's steps usually are
    assert seen == 14  # seven in each of two layers


def test_weights_shrink_alike_under_both(muon):
    """Weight decay is taken off each by the same share of the rate."""
    moved = []
    for decay in (0.0, 0.5):
        network, parameters = prepared(muon)
        before = steps(network, parameters, replace(muon, weight_decay=decay))
        moved.append({name: each.detach() for name, each in parameters.items()})
    for name, value in before.items():
        torch.testing.assert_close(moved[0][name] - moved[1][name], value * RATE * 0.5, rtol=1e-3, atol=1e-6)


def test_adamw_alone_is_what_it_was(muon):
    settings = replace(muon, optimizer="adamw", memory_lr=3.0)
    found = []
    for plain in (False, True):
        network, parameters = prepared(settings)
        if not plain:
            steps(network, parameters, settings, count=3)
        else:
            memory = [each for name, each in parameters.items() if "." not in name]
            others = [each for name, each in parameters.items() if "." in name]
            adamw = torch.optim.AdamW([{"params": others}, {"params": memory, "lr": 3 * RATE}], RATE, weight_decay=0.0)
            for number in range(3):
                torch.manual_seed(number)
                for each in parameters.values():
                    each.grad = torch.randn_like(each) * 10 ** float(torch.randn(()))
                adamw.step()
        found.append({name: each.detach() for name, each in parameters.items()})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one(muon, data, tmp_path):
    settings = replace(muon, max_steps=7, save_every=3)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:  # two steps beyond the last checkpoint
            raise Killed

    def go(out, **options):
        run_stage("align", settings, RunOptions(data=[str(data["text"])], out=out, device="cpu", **options))
        last = sorted((out / "checkpoints").glob("step-*"))[-1]
        state = torch.load(last / "state.pt", weights_only=True)
        return [row["loss"] for row in read_metrics(out) if "loss" in row], state

    losses, whole = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "cut", show=kill)
    again, cut = go(tmp_path / "cut", resume=True)
    assert again == losses
    assert all(torch.equal(whole["parameters"][name], value) for name, value in cut["parameters"].items())
    kinds = {frozenset(moments) for moments in whole["moments"].values()}
    assert kinds == {frozenset({"momentum_buffer"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}
    for name, moments in whole["moments"].items():
        assert all(torch.equal(value, cut["moments"][name][key]) for key, value in moments.items())


@pytest.mark.parametrize("changes", [{"train_weights": "adapter"}, {"shard": True}])
def test_what_muon_cannot_move_is_refused(changes, muon):
    with pytest.raises(UsageError, match=r"optimizer.*must be adamw with `(train_weights=adapter|shard)`, not muon"):
        replace(muon, **changes)


def test_a_pytorch_without_it_is_refused(muon, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match=r"optimizer.*before PyTorch 2.9"):
        load_for_training(muon, "cpu")
