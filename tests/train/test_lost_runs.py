"""Runs that are lost say so, and leave nothing behind that is not finite."""

from __future__ import annotations

import math
import signal
from dataclasses import fields, replace

import pytest
import torch
from llm2comp_train.engine import checkpoints
from llm2comp_train.engine.contrast import ContrastiveWork
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.settings import Settings
from llm2comp_train.stages import get_stage

from llm2comp_apps.errors import TrainingError, UsageError


@pytest.fixture
def align(settings, data, tmp_path, deep_encoder_dir):
    """Runs the stage on a tiny backbone, all of whose weights train."""

    def start(**changes):
        chosen = replace(settings, train_weights="all", teacher=str(deep_encoder_dir), **changes)
        run_stage("align", chosen, RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu"))

    return start


@pytest.mark.parametrize("lr", [1e30, 3e38])
def test_a_run_that_breaks_in_its_last_steps_is_no_success(align, tmp_path, lr):
    """Single steps are skipped; so few are left here that none ends the run."""
    with pytest.raises(TrainingError, match=r"step [23]: .*(nan|not finite), so nothing is saved of it. Lower `lr`"):
        align(max_steps=3, lr=lr, warmup_steps=0, schedule="constant")
    assert not (tmp_path / "run" / "encoder" / "encoder.json").exists()


def test_weights_that_are_not_finite_are_not_saved(align, tmp_path, monkeypatch):
    learn, steps = ContrastiveWork.learn, iter(range(100))

    def spoiled(self, *arguments, **others):
        outcome = learn(self, *arguments, **others)
        if next(steps) == 3:
            with torch.no_grad():
                self._network.memory_tokens.fill_(torch.nan)
        return outcome

    monkeypatch.setattr(ContrastiveWork, "learn", spoiled)
    with pytest.raises(TrainingError, match=r"step 4: weights are not finite, so nothing is saved of it"):
        align(max_steps=8, save_every=2, eval_every=8)
    newest = checkpoints.latest(tmp_path / "run")
    assert newest is not None
    assert newest.name == "step-000002"


def test_a_run_that_is_stopped_saves_nothing_either(align, tmp_path, monkeypatch):
    learn = ContrastiveWork.learn

    def spoiled(self, *arguments, **others):
        outcome = learn(self, *arguments, **others)
        with torch.no_grad():
            self._network.memory_tokens.fill_(torch.nan)
        signal.raise_signal(signal.SIGINT)
        return outcome

    monkeypatch.setattr(ContrastiveWork, "learn", spoiled)
    with pytest.raises(TrainingError, match=r"step 1: weights are not finite"):
        align(max_steps=8, save_every=8, eval_every=8)
    assert checkpoints.latest(tmp_path / "run") is None


@pytest.mark.parametrize("name", [each.name for each in fields(Settings) if each.type == "float"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_settings_are_finite(name, value):
    if name == "clip_norm" and value == math.inf:
        assert Settings(clip_norm=value).clip_norm == value  # no clipping
        return
    with pytest.raises(UsageError, match=r"must be finite, not (inf|nan)") as caught:
        Settings(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_targets": ""}, r"must be names of layers such as q_proj,v_proj, not empty"),
        ({"lora_targets": "q_proj,,v_proj"}, r"must be names of layers such as q_proj,v_proj, not q_proj,,v_proj"),
        ({"lora_alpha": 0}, r"must be above 0, not 0"),
    ],
)
def test_an_adapter_on_no_layers_or_of_no_weight_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        Settings(**changes)


@pytest.mark.parametrize("weight", ["inf", "nan"])
def test_weights_of_teachers_are_finite(settings, weight):
    with pytest.raises(UsageError, match=rf"must have finite weights, not {weight} for a"):
        get_stage("align").check(replace(settings, teacher=f"a={weight}"))


def test_a_full_disk_under_a_state_is_one(tmp_path):
    resource = pytest.importorskip("resource", reason="needs limits of files")
    checkpoints.save(tmp_path, 1, {"step": 1}, lambda folder: None, set())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*state\.pt"):
            checkpoints.save(tmp_path, 2, {"weights": torch.zeros(4096)}, lambda folder: None, set())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert checkpoints.latest(tmp_path) is not None
