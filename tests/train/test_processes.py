"""Several processes (gloo) do what one does, for every kind of stage; and what happens when one of them is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.processes import Processes
from llm2comp_train.engine.run import RunOptions, run_stage

from llm2comp_apps.errors import TrainingError

CHILD = """
import sys, json
from pathlib import Path
from llm2comp_apps.errors import LLM2CompError
from llm2comp_train.settings import Settings
from llm2comp_train.engine.run import RunOptions, run_stage
given = json.loads(sys.argv[1])
try:
    run_stage(given["stage"], Settings(**given["settings"]), RunOptions(
        data=[given["data"]], out=Path(given["out"]), device="cpu", resume=given["resume"]))
except LLM2CompError as error:
    sys.exit(f"error: {error}")
"""


def start(world, stage, settings, data, out, *, resume=False):
    """Processes of one run."""
    given = {"stage": stage, "data": str(data), "out": str(out), "resume": resume}
    given["settings"] = asdict(settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    children = []
    for rank in map(str, range(world)):
        group = address | {"WORLD_SIZE": str(world), "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", CHILD, json.dumps(given)]
        children.append(subprocess.Popen(command, env=os.environ | group, stderr=subprocess.PIPE, text=True))
    return children


def finish(children):
    """Exit code and stderr of each."""
    complaints = [child.communicate(timeout=300)[1] for child in children]
    return [(child.returncode, complaint) for child, complaint in zip(children, complaints, strict=True)]


def losses(folder):
    return [row["loss"] for row in read_metrics(folder) if "loss" in row]


def parameters(folder, step):
    return torch.load(folder / f"checkpoints/step-{step:06d}/state.pt", weights_only=True)["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["kl", "scl"])
def test_four_processes_do_what_one_does(stage, settings, data, tmp_path):
    settings = replace(settings, max_steps=4, batch_size=10)  # shares of 3, 3, 2 and 2
    path = data["pairs" if stage == "scl" else "text"]
    run_stage(stage, settings, RunOptions(data=[str(path)], out=tmp_path / "1", device="cpu"))
    for code, complaint in finish(start(4, stage, settings, path, tmp_path / "4")):
        assert code == 0, complaint
    np.testing.assert_allclose(losses(tmp_path / "4"), losses(tmp_path / "1"), rtol=1e-4)
    four = parameters(tmp_path / "4", 4)
    for name, tensor in parameters(tmp_path / "1", 4).items():
        torch.testing.assert_close(four[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_align_in_two_processes_does_what_one_does(settings, data, deep_encoder_dir, tmp_path):
    deep = str(deep_encoder_dir)
    settings = replace(
        settings,
        max_steps=4,
        batch_size=7,
        teacher=deep,
        layers="0,",
        train_weights="all",
        fit_texts=40,
        lr=3e-3,
        maxsim_weight=0.5,
    )
    path = data["text"]
    run_stage("align", settings, RunOptions(data=[str(path)], out=tmp_path / "1", device="cpu"))
    for code, complaint in finish(start(2, "align", settings, path, tmp_path / "2")):
        assert code == 0, complaint
    assert len(losses(tmp_path / "2")) == 4
    np.testing.assert_allclose(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=1e-4)


@pytest.mark.slow
def test_a_lost_process_ends_the_others_with_a_clear_line_and_the_run_resumes(settings, data, tmp_path):
    settings = replace(settings, max_steps=100, save_every=5)
    path, run = data["text"], tmp_path / "run"
    children = start(2, "kl", settings, path, run)
    while not (run / "checkpoints/step-000005").is_dir():
        assert all(child.poll() is None for child in children), finish(children)
        time.sleep(0.02)
    os.kill(children[1].pid, signal.SIGKILL)
    (code, complaint), (killed, _) = finish(children)
    assert killed == -signal.SIGKILL
    assert code == 1
    assert "error: another process of this run is gone" in complaint
    assert "`resume` continues from the last checkpoint" in complaint
    done = len(losses(run))
    assert 5 <= done < 100
    for code, complaint in finish(start(2, "kl", settings, path, run, resume=True)):
        assert code == 0, complaint
    run_stage("kl", settings, RunOptions(data=[str(path)], out=tmp_path / "1", device="cpu"))
    assert len(losses(run)) == 100
    np.testing.assert_allclose(losses(run)[:50], losses(tmp_path / "1")[:50], rtol=1e-3)


@pytest.mark.parametrize("form", [(4,), (3, 4)])
def test_uneven_shares_of_any_form_are_put_together(monkeypatch, form):
    rows = torch.arange(7 * int(np.prod(form)), dtype=torch.float32).view(7, *form)
    sent = {}
    for rank in (0, 1):  # what each sends
        processes = Processes("cpu")
        processes.world, processes.rank = 2, rank

        def keep(parts, mine, rank=rank):
            assert all(part.shape == mine.shape for part in parts)
            sent[rank] = mine

        monkeypatch.setattr(torch.distributed, "all_gather", keep)
        processes.gather(torch.stack(processes.share(list(rows))), len(rows))

    def deliver(parts, _):
        for rank, part in enumerate(parts):
            part.copy_(sent[rank])

    monkeypatch.setattr(torch.distributed, "all_gather", deliver)
    assert torch.equal(processes.gather(torch.stack(processes.share(list(rows))), len(rows)), rows)


def test_errors_of_other_kinds_stay_what_they_are(monkeypatch):
    """Only what the processes do together can fail because one of them is gone."""
    processes = Processes("cpu")
    processes.world = 2

    def fail(*_, **__):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:3213")

    monkeypatch.setattr(torch.distributed, "all_reduce", fail)
    monkeypatch.setattr(torch.distributed, "all_gather", fail)
    parameter = torch.nn.Parameter(torch.ones(2))
    for call in (
        lambda: processes.total(1.0),
        lambda: processes.added(torch.ones(2)),
        lambda: processes.add_gradients([parameter]),
        lambda: processes.gather(torch.ones(2, 3), 4),
    ):
        with pytest.raises(TrainingError, match="another process of this run is gone"):
            call()
    with pytest.raises(ValueError, match="too many dimensions"):
        processes.total("no number")
