"""Runs end to end on a tiny backbone: every stage learns, resumes exactly, and ends in a loadable encoder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from llm2comp_train.engine import checkpoints
from llm2comp_train.engine.adapters import build_network
from llm2comp_train.engine.chain import run_recipe
from llm2comp_train.engine.metrics import MetricsLog, read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.engine.sharding import placed_like
from llm2comp_train.stages import STAGES, get_stage
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import CorpusError, TrainingError, TrainingStoppedError, UsageError


def with_needed(stage, settings):
    """Settings with those without which a stage has nothing to learn from."""
    needed = {"ucl": {"lora_dropout": 0.1}, "align": {"teacher": f"baseline:wmp@{settings.backbone}"}}
    return replace(settings, **needed.get(stage, {}))


def go(stage, settings, data, out, **options):
    kind = "pairs" if get_stage(stage).rows == "pairs" else "text"
    given = {"data": [str(data[kind])], "out": out, "device": "cpu"} | options
    return run_stage(stage, settings, RunOptions(**given))


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run) if "loss" in row]


def weights(run: Path) -> dict[str, torch.Tensor]:
    step = sorted((run / "checkpoints").glob("step-*"))[-1]
    return torch.load(step / "state.pt", weights_only=True)["parameters"]


@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if not stage.reranks])
def test_each_stage_lowers_its_loss_and_ends_in_an_encoder(stage, settings, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    settings = replace(with_needed(stage, settings), max_steps=40, lr=1e-2, batch_size=8, save_every=100)
    directory = go(stage, settings, data, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert len(found) == 40
    assert np.mean(found[-8:]) < np.mean(found[:8]) - 0.01
    encoder = LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    vectors = encoder.encode(["the king and the queen", "atom"])
    assert vectors.shape == (2, 32)
    assert encoder.settings.training["stage"] == stage
    assert load_file(directory / "adapter_model.safetensors").popitem()[1].dtype == torch.float16
    assert (tmp_path / "run" / "curve.png").is_file()


@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if not stage.reranks])
def test_settings_that_a_stage_is_said_not_to_read_change_nothing(
    stage, settings, data, tmp_path, monkeypatch, with_other_values
):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    settings = replace(with_needed(stage, settings), max_steps=3, eval_every=2)
    for name, given in (("one", settings), ("other", with_other_values(settings, stage))):
        go(stage, given, data, tmp_path / name)
    assert losses(tmp_path / "one") == losses(tmp_path / "other")
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stage", ["kl", "mntp", "ebar", "scl"])
def test_an_interrupted_run_that_is_resumed_ends_bit_for_bit_as_an_undisturbed_one(stage, settings, data, tmp_path):
    settings = replace(settings, max_steps=7, save_every=3, lora_dropout=0.1)
    go(stage, settings, data, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:  # two steps beyond the last checkpoint
            raise Killed

    with pytest.raises(Killed):
        go(stage, settings, data, tmp_path / "cut", show=kill)
    go(stage, settings, data, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_scl_trains_late_interaction_where_it_has_a_weight(settings, data, tmp_path):
    """What MaxSim adds is there from the first step on, by its weight."""
    runs = {}
    for weight in (0.0, 0.5, 1.0):
        go("scl", replace(settings, max_steps=2, maxsim_weight=weight), data, tmp_path / str(weight))
        runs[weight] = losses(tmp_path / str(weight))
    first = [runs[weight][0] for weight in (0.0, 0.5, 1.0)]
    assert first[1] - first[0] == pytest.approx((first[2] - first[0]) / 2, rel=1e-4)
    assert first[2] > first[0]


CHILD = """
import sys, json
from pathlib import Path
from llm2comp_train.settings import Settings
from llm2comp_train.engine.run import RunOptions, run_stage
given = json.loads(sys.argv[1])
run_stage("kl", Settings(**given["settings"]), RunOptions(
    data=[given["data"]], out=Path(given["out"]), resume=given["resume"], device="cpu"))
"""


def _start(settings, data, out, resume):
    from dataclasses import asdict

    given = {"settings": asdict(settings), "data": str(data["text"]), "out": str(out), "resume": resume}
    return subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(given)], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_weights_of_an_undisturbed_one(settings, data, tmp_path):
    settings = replace(settings, max_steps=30, save_every=2)
    go("kl", settings, data, tmp_path / "whole")
    for number, wanted in enumerate((4, 11, 19)):
        child = _start(settings, data, tmp_path / "cut", resume=number > 0)
        _wait_for_step(tmp_path / "cut", wanted, child)
        child.send_signal(signal.SIGTERM if number == 1 else signal.SIGKILL)
        child.communicate(timeout=60)
        assert child.returncode != 0
    child = _start(settings, data, tmp_path / "cut", resume=True)
    _, complaint = child.communicate(timeout=120)
    assert child.returncode == 0, complaint
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def _wait_for_step(run, step, child):
    deadline = time.monotonic() + 120
    while not (rows := read_metrics(run)) or rows[-1]["step"] < step:
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_saves_and_says_how_to_go_on(settings, data, tmp_path):
    def stop(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="after step 3 of 6; `resume` continues"):
        go("kl", settings, data, tmp_path / "run", show=stop)
    assert (tmp_path / "run/checkpoints/step-000003/state.pt").is_file()


def test_a_request_in_the_last_step_is_passed_on_when_all_is_written(settings, data, tmp_path):
    def stop(progress):
        if progress.step == progress.steps:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go("kl", settings, data, tmp_path / "run", show=stop)
    assert (tmp_path / "run/encoder/encoder.json").is_file()


def test_only_two_checkpoints_stay_besides_the_evaluated_encoders(settings, data, tmp_path):
    go("kl", replace(settings, max_steps=10, save_every=2, eval_every=4), data, tmp_path / "run")
    states = {path.parent.name for path in (tmp_path / "run/checkpoints").glob("*/state.pt")}
    encoders = {path.parent.name for path in (tmp_path / "run/checkpoints").glob("*/encoder.json")}
    assert states == {"step-000008", "step-000010"}
    assert encoders == {"step-000004", "step-000008", "step-000010"}


def test_several_passes_give_the_losses_of_one(settings, data, tmp_path):
    go("kl", settings, data, tmp_path / "one")
    go("kl", replace(settings, tokens_per_pass=20), data, tmp_path / "many")
    np.testing.assert_allclose(losses(tmp_path / "many"), losses(tmp_path / "one"), rtol=1e-4)


def test_the_gain_does_not_depend_on_the_passes(settings, data, tmp_path):
    settings = replace(settings, eval_every=6)
    go("kl", settings, data, tmp_path / "one")
    go("kl", replace(settings, tokens_per_pass=1), data, tmp_path / "many")
    one, many = (read_metrics(tmp_path / run)[-1] for run in ("one", "many"))
    assert abs(one["gain"]) > 0.001
    assert many["gain"] == pytest.approx(one["gain"], abs=1e-4)


@pytest.mark.parametrize("stage", ["kl", "scl"])
def test_gradient_checkpointing_changes_nothing(stage, settings, data, tmp_path):
    settings = replace(settings, lora_dropout=0.1)
    go(stage, settings, data, tmp_path / "off")
    go(stage, replace(settings, gradient_checkpointing=True), data, tmp_path / "on")
    np.testing.assert_allclose(losses(tmp_path / "on"), losses(tmp_path / "off"), rtol=1e-5)


@pytest.mark.parametrize("adapter", ["continue", "fresh"])
def test_a_later_stage_starts_where_the_earlier_one_ended(adapter, settings, data, tmp_path):
    first = go("kl", settings, data, tmp_path / "kl")
    settings = replace(settings, adapter=adapter, lr=1e-12, lora_alpha=12, train_memory=False, max_steps=1)
    if adapter == "continue":
        settings = replace(settings, lora_alpha=8)
    second = go("scl", settings, data, tmp_path / "scl", init=tmp_path / "kl")
    texts = ["the king and the queen", "atom light sound"]
    before, after = (
        LLM2Comp.from_pretrained(str(directory), device="cpu", dtype=torch.float32).encode(texts)
        for directory in (first, second)
    )
    np.testing.assert_allclose(after, before, atol=2e-4)
    rank = json.loads((second / "adapter_config.json").read_text())["r"]
    assert rank == (8 if adapter == "fresh" else 4)


def test_an_encoder_says_how_it_was_made_without_paths_of_this_machine(settings, data, tmp_path):
    settings = replace(settings, max_steps=1)
    go("kl", settings, data, tmp_path / "kl")
    teacher = f"baseline:wmp@{settings.backbone}"
    made = go("scl", replace(settings, teacher=teacher), data, tmp_path / "scl", init=tmp_path / "kl")
    training = json.loads((made / "encoder.json").read_text())["training"]
    backbone = Path(settings.backbone).name
    found = [training[name] for name in ("init", "backbone", "teacher")]
    assert found == ["encoder", backbone, f"baseline:wmp@{backbone}"]
    assert json.loads((tmp_path / "scl/run.json").read_text())["init"] == str(tmp_path / "kl")


def test_a_fresh_adapter_leaves_the_earlier_one_as_it_was(settings, data, tmp_path):
    first = go("kl", settings, data, tmp_path / "kl")
    second = go("scl", replace(settings, adapter="fresh"), data, tmp_path / "scl", init=first)
    before, after = (load_file(directory / "adapter_model.safetensors") for directory in (first, second))
    for name, tensor in before.items():
        if ".lora_A." in name:
            assert torch.equal(after[name][:4], tensor)
            assert after[name].shape[0] == 8


def test_not_a_number_stops_with_step_and_rows(settings, data, tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+: the loss is .*text\.jsonl:\d+"):
        go("kl", replace(settings, lr=1e30, max_steps=20), data, tmp_path / "run")


def test_a_dead_memory_stops_the_run(settings, data, tmp_path):
    log = MetricsLog(tmp_path, replace(settings, dead_gain=0.02, dead_after=2), 0)
    log.write({"step": 1, "gain": 0.5})
    log.write({"step": 2, "gain": 0.0})
    assert not log.dead
    log.write({"step": 3, "gain": -0.1})
    assert log.dead
    again = MetricsLog(tmp_path, replace(settings, dead_gain=0.02, dead_after=2), 3)
    assert again.dead
    with pytest.raises(TrainingError, match="step 2: the memory is dead"):
        go("kl", replace(settings, dead_gain=99, dead_after=2, eval_every=1), data, tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 2


def test_a_run_that_died_is_not_finished_by_resuming_it(settings, data, tmp_path):
    settings = replace(settings, dead_gain=99, dead_after=1, eval_every=2, max_steps=2)
    for resume in (False, True):
        with pytest.raises(TrainingError, match="step 2: the memory is dead"):
            go("kl", settings, data, tmp_path / "run", resume=resume)
    assert not (tmp_path / "run/encoder").exists()
    go("kl", replace(settings, dead_after=2), data, tmp_path / "run", resume=True)
    assert (tmp_path / "run/encoder").is_dir()


def test_a_tokenizer_with_templates_in_a_folder_is_published_whole(settings, data, tmp_path, monkeypatch):
    def with_folder(directory, *arguments, **named):
        write(directory, *arguments, **named)
        (directory / "additional_chat_templates").mkdir(exist_ok=True)
        (directory / "additional_chat_templates" / "tool_use.jinja").write_text("{}", "utf-8")

    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", with_folder)
    go("kl", replace(settings, max_steps=1), data, tmp_path / "run")
    assert (tmp_path / "run/encoder/additional_chat_templates/tool_use.jinja").is_file()
    assert not (tmp_path / "run/encoder/state.pt").exists()


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(settings, data, tmp_path):
    settings = replace(settings, max_steps=2)
    go("kl", settings, data, tmp_path / "run")
    with pytest.raises(UsageError, match="add `resume` to continue"):
        go("kl", settings, data, tmp_path / "run")
    with pytest.raises(UsageError, match="other values of lr"):
        go("kl", replace(settings, lr=1e-4), data, tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["data", "encoder", "checkpoints"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_is_of_no_run_is_not_replaced(settings, data, tmp_path, name, resume):
    kept = tmp_path / name / "pairs.jsonl"
    kept.parent.mkdir()
    kept.write_bytes(data["pairs"].read_bytes())
    with pytest.raises(UsageError, match=rf"out .* holds {name}, which is not of this run and would be replaced"):
        run_stage("scl", settings, RunOptions(data=[str(kept)], out=tmp_path, device="cpu", resume=resume))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_an_encoder_that_is_of_no_chain_is_not_replaced(data, tmp_path):
    kept = tmp_path / "encoder/encoder.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    options = RunOptions(data=[str(data["text"]), str(data["pairs"])], out=tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"holds encoder, which is not of this run"):
        run_recipe(None, "all", {}, options)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_damaged_state_is_named(settings, data, tmp_path):
    settings = replace(settings, max_steps=2)
    go("kl", settings, data, tmp_path / "run")
    state = tmp_path / "run/checkpoints/step-000002/state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TrainingError, match="step-000002"):
        go("kl", settings, data, tmp_path / "run", resume=True)


def test_what_else_lies_beside_checkpoints_does_no_harm(settings, data, tmp_path):
    settings = replace(settings, max_steps=4)
    go("kl", replace(settings, max_steps=2), data, tmp_path / "run")
    (tmp_path / "run/checkpoints/step-000004-copy").mkdir()
    assert checkpoints.latest(tmp_path / "run").name == "step-000002"
    (tmp_path / "run/run.json").write_text("{", "utf-8")
    with pytest.raises(TrainingError, match=r"run\.json: damaged .*; give another `out`"):
        go("kl", settings, data, tmp_path / "run", resume=True)


@pytest.mark.parametrize("stage", ["kl", "ucl", "mntp"])
def test_held_out_texts_keep_to_the_budget_of_a_pass(stage, settings, data, tmp_path, monkeypatch):
    sizes = []
    memory = CompressionNetwork.memory

    def noted(network, ids, mask=None):
        sizes.append(ids.shape[0] * (ids.shape[1] + network.extra_tokens))
        return memory(network, ids, mask)

    monkeypatch.setattr(CompressionNetwork, "memory", noted)
    settings = replace(settings, max_steps=2, eval_every=1, validation_texts=40, tokens_per_pass=60, tokens_kept=60)
    go(stage, settings, data, tmp_path / "run")
    assert len(sizes) > 4
    assert max(sizes) <= 60 + 43


def test_a_broken_row_is_reported_with_file_and_line_before_training(settings, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "the king"}\n{"txt": "the queen"}\n', "utf-8")
    with pytest.raises(CorpusError, match=r"broken\.jsonl:2: the field 'text' is not there"):
        go("kl", settings, {"text": broken}, tmp_path / "run")


def test_another_backbone_or_shape_of_the_initial_checkpoint_is_refused(settings, data, tmp_path):
    go("kl", replace(settings, max_steps=1), data, tmp_path / "kl")
    with pytest.raises(TrainingError, match="`k` says 5"):
        go("scl", replace(settings, k=5), data, tmp_path / "a", init=tmp_path / "kl")
    for changes in ({"lora_r": 2}, {"lora_alpha": 16}):
        with pytest.raises(TrainingError, match="continue with `lora_r=4` `lora_alpha=8`"):
            go("scl", replace(settings, **changes), data, tmp_path / "b", init=tmp_path / "kl")
    for adapter in ("continue", "fresh"):
        other = replace(settings, lora_targets="q_proj,v_proj", adapter=adapter)
        with pytest.raises(TrainingError, match="continue with `lora_targets=down_proj,gate_proj"):
            go("scl", other, data, tmp_path / "d", init=tmp_path / "kl")
    with pytest.raises(TrainingError, match="neither an encoder"):
        go("scl", settings, data, tmp_path / "c", init=tmp_path)


def test_an_encoder_of_another_backbone_says_which_one_goes_with_it(settings, data, tmp_path):
    directory = tmp_path / "other"
    shutil.copytree(settings.backbone, directory)
    lm = LlamaForCausalLM.from_pretrained(directory)
    lm.lm_head.weight.data += 1
    lm.save_pretrained(directory)
    go("kl", replace(settings, max_steps=1, backbone=str(directory)), data, tmp_path / "kl")
    with pytest.raises(
        TrainingError, match=rf"for the weights of {directory}, .* continue with `backbone={directory}`"
    ):
        go("scl", settings, data, tmp_path / "a", init=tmp_path / "kl")
    lm.lm_head.weight.data += 1
    lm.save_pretrained(directory)
    with pytest.raises(TrainingError, match=rf"made for other weights of {directory} than it has now"):
        go("scl", replace(settings, backbone=str(directory)), data, tmp_path / "a", init=tmp_path / "kl")


@pytest.mark.parametrize("resume", [False, True])
def test_two_calls_do_not_train_in_one_folder(settings, data, tmp_path, resume):
    refused = []

    def another(_progress):
        try:
            go("nll", replace(settings, seed=1), data, tmp_path / "run", resume=False)
        except UsageError as error:  # it has begun, and that is seen before anything is loaded
            refused.append(str(error))
        if resume:
            with pytest.raises(TrainingError, match=r"run: another process trains there now; wait until it has ended"):
                go("kl", settings, data, tmp_path / "run", resume=True)

    go("kl", settings, data, tmp_path / "run", show=another)
    go("kl", settings, data, tmp_path / "alone")
    assert len(refused) == settings.max_steps
    assert losses(tmp_path / "run") == losses(tmp_path / "alone")


def test_a_call_that_comes_before_the_first_step_leaves_the_data_of_another_one(settings, data, tmp_path, monkeypatch):
    """Neither run had begun when the second one looked, so that it took the folder for a free one."""
    work = get_stage("kl").work
    monkeypatch.setattr(type(get_stage("kl")), "work", lambda stage, bench: (second(), work(bench))[1])

    def second():
        before = sorted((tmp_path / "run").rglob("*"))
        with pytest.raises(TrainingError, match="another process trains there now"):
            go("nll", replace(settings, seed=1), data, tmp_path / "run")
        assert sorted((tmp_path / "run").rglob("*")) == before

    go("kl", settings, data, tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["stage"] == "kl"


def test_contexts_that_no_text_has_are_refused(settings, data, tmp_path):
    long = replace(settings, context="8,64", max_length=40)
    for stage in ("rc", "kl", "mntp"):
        with pytest.raises(
            UsageError, match=r"context must be at most 40, where texts are cut \(`max_length`\), not 64"
        ):
            go(stage, long, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    go("scl", replace(long, max_steps=1), data, tmp_path / "run")  # which has no contexts


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    def export(folder):
        folder.mkdir(exist_ok=True)

    for step in (999_900, 1_000_000):
        checkpoints.save(tmp_path, step, {"step": step}, export, set())
    assert checkpoints.load_state(checkpoints.latest(tmp_path))["step"] == 1_000_000
    checkpoints.save(tmp_path, 1_000_100, {"step": 1_000_100}, export, set())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-1000000", "step-1000100"]


def test_a_failed_write_of_the_metrics_loses_no_evaluation(settings, tmp_path, monkeypatch):
    log = MetricsLog(tmp_path, settings, 0)
    log.write({"step": 1, "loss": 1.0})
    log.write({"step": 1, "score": 0.5})

    def full(path, *_, **__):
        path.open("w").close()  # what is written first is that nothing is there any more
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            MetricsLog(tmp_path, settings, 1)
    assert [row["step"] for row in MetricsLog(tmp_path, settings, 1).evaluations] == [1]


def test_the_fused_optimiser_counts_where_its_parameter_is():
    parameter = torch.nn.Parameter(torch.empty(3, device="meta"))
    count, moment = torch.tensor(5.0), torch.ones(3)
    assert placed_like(count, parameter).device.type == "cpu"
    assert placed_like(count, parameter, fused=True).device.type == "meta"
    assert placed_like(moment, parameter, fused=True).device.type == "meta"


def test_memory_that_is_not_finite_leaves_the_centre_as_it_was(backbone, settings):
    network = build_network(backbone, settings, None)
    before = network.center.clone()
    for wrong in (torch.nan, torch.inf):
        network.track(torch.full_like(before, wrong), 4)
        assert torch.equal(network.center, before)
    network.track(torch.ones_like(before) * 4, 4)
    assert not torch.equal(network.center, before)
