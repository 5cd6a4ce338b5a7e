"""GradCache against one plain pass, with dropout on; and the work of two processes against that of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from llm2comp_train.engine.adapters import build_network, trainable
from llm2comp_train.engine.gradcache import contrastive_backward
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.processes import Processes
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.losses.scl import scl_loss

from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.pooling import pool

ROWS = [[5, 6, 7], [8, 9], [4, 5, 6, 7, 8, 9], [10], [11, 12, 13], [3, 4], [5, 9, 7, 11], [12, 3]]


def loss_of(vectors):
    return scl_loss(vectors[:4], vectors[4:], temperature=0.05)


@pytest.fixture
def network(backbone, settings):
    network = build_network(backbone, replace(settings, lora_dropout=0.3), None)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return network.train()


def gradients(network, *, tokens_kept, seed=0):
    seen = []

    def embed(rows):
        vectors = pool(network.memory(*left_pad(rows, 0, "cpu")))
        seen.append(vectors.detach().clone())
        return vectors

    torch.manual_seed(seed)
    network.zero_grad()
    # Two rows a pass in both ways, so that both draw the same dropout.
    loss = contrastive_backward(
        ROWS, embed, loss_of, Processes("cpu"), tokens_per_pass=12, tokens_kept=tokens_kept, extra_tokens=3
    )
    return (
        loss,
        {name: parameter.grad.clone() for name, parameter in trainable(network).items() if "shift" not in name},
        seen,
    )


def test_cached_gradients_equal_plain_ones_with_dropout(network):
    plain_loss, plain, once = gradients(network, tokens_kept=10**6)
    cached_loss, cached, twice = gradients(network, tokens_kept=1)
    assert len(twice) == 2 * len(once) > 2
    for first, second in zip(twice, twice[len(once) :], strict=False):
        assert torch.equal(first, second)  # the random state was replayed
    assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
    for name, gradient in plain.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_dropout_is_really_on_in_this_comparison(network):
    one, _, _ = gradients(network, tokens_kept=10**6, seed=0)
    other, _, _ = gradients(network, tokens_kept=10**6, seed=1)
    assert one != pytest.approx(other, rel=1e-3)


CHILD = """
import sys, json
from pathlib import Path
from llm2comp_train.settings import Settings
from llm2comp_train.engine.run import RunOptions, run_stage
given = json.loads(sys.argv[1])
run_stage(given["stage"], Settings(**given["settings"]), RunOptions(
    data=[given["data"]], out=Path(given["out"]), device="cpu"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "shard"), [("kl", False), ("scl", False), ("kl", True), ("scl", True)])
def test_two_processes_do_what_one_does(stage, shard, settings, data, tmp_path):
    settings = replace(settings, max_steps=4, batch_size=7)  # odd, so that the shares differ
    if shard:  # the processes have unlike numbers of passes, and all that learns may be sharded
        settings = replace(settings, tokens_per_pass=20, train_memory=stage != "scl")
    path = str(data["pairs" if stage == "scl" else "text"])
    run_stage(stage, settings, RunOptions(data=[path], out=tmp_path / "1", device="cpu"))
    for code, complaint in run_twice(stage, replace(settings, shard=shard), path, tmp_path / "2"):
        assert code == 0, complaint
    alone, together = ([row["loss"] for row in read_metrics(tmp_path / n) if "loss" in row] for n in ("1", "2"))
    assert len(together) == 4
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    one, two = (
        torch.load(tmp_path / n / "checkpoints/step-000004/state.pt", weights_only=True)["parameters"]
        for n in ("1", "2")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_dead_run_ends_in_all_processes(settings, data, tmp_path):
    dead = replace(settings, max_steps=50, eval_every=1, dead_after=1, dead_gain=99.0)
    for code, complaint in run_twice("kl", dead, str(data["text"]), tmp_path / "run"):
        assert code != 0
        assert "step 1: the memory is dead" in complaint


def run_twice(stage, settings, data, out):
    """A run of two processes: (exit code, stderr) of each."""
    given = {"stage": stage, "data": data, "out": str(out), "settings": asdict(settings)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    children = []
    for rank in ("0", "1"):
        group = address | {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", CHILD, json.dumps(given)]
        children.append(subprocess.Popen(command, env=os.environ | group, stderr=subprocess.PIPE, text=True))
    complaints = [child.communicate(timeout=300)[1] for child in children]
    return [(child.returncode, complaint) for child, complaint in zip(children, complaints, strict=True)]


@pytest.mark.parametrize("late", [False, True])
def test_a_process_without_a_text_has_an_empty_share(network, monkeypatch, late):
    """The third of three processes, and two texts."""
    whole = [pool(network.memory(*left_pad([row], 0, "cpu"))).detach() for row in ROWS[:2]]
    if late:
        whole = [vectors[:, None].repeat(1, 3, 1) for vectors in whole]
    everything = torch.cat(whole)
    processes = Processes("cpu")
    processes.world, processes.rank = 3, 2

    def gather(rows, count):
        assert rows.shape == (0, *everything.shape[1:])
        assert count == 2
        return everything.clone()

    monkeypatch.setattr(processes, "gather", gather)
    monkeypatch.setattr(processes, "idle_passes", lambda count: 0)

    def embed(rows):
        vectors = pool(network.memory(*left_pad(rows, 0, "cpu")))
        return vectors[:, None].repeat(1, 3, 1) if late else vectors

    network.zero_grad()
    loss = contrastive_backward(
        ROWS[:2], embed, torch.sum, processes, tokens_per_pass=12, tokens_kept=100, extra_tokens=3
    )
    assert loss == pytest.approx(float(everything.sum()), rel=1e-5)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in network.parameters())
