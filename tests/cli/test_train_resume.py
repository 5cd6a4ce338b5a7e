"""``llm2comp train --resume``: a run continues as it was started, or one line says why not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest


def test_all_stages_in_one_call_and_again_with_resume(run, data, small, tmp_path):
    call = ["--stage", "all", "--data", data["text"], "--data", data["pairs"], "--out", tmp_path / "all", *small]
    assert run(*call).exit_code == 0
    assert (tmp_path / "all/1-kl/encoder/encoder.json").is_file()
    assert (tmp_path / "all/2-scl/encoder/encoder.json").is_file()
    final = json.loads((tmp_path / "all/encoder/encoder.json").read_text())
    assert final == json.loads((tmp_path / "all/2-scl/encoder/encoder.json").read_text())
    assert final["name"].startswith("all-2-scl-20")
    again = run(*call, "--resume")
    assert again.exit_code == 0
    assert "step" not in again.stderr
    assert again.stderr.splitlines()[:2] == ["1-kl: finished, passed over", "2-scl: finished, passed over"]
    shutil.rmtree(tmp_path / "all/encoder")  # as if it had been stopped just before
    assert run(*call, "--resume").exit_code == 0
    assert json.loads((tmp_path / "all/encoder/encoder.json").read_text()) == final


def test_all_stages_are_resumed_with_their_own_settings_only(run, data, small, tmp_path):
    out = tmp_path / "all"
    call = ["--stage", "all", "--data", data["text"], "--data", data["pairs"], "--out", out, *small]
    first = run(*call)
    assert f"stage 1/2: kl, 2 steps of 4 into {out / '1-kl'}" in first.stderr
    assert f"stage 2/2: scl, 2 steps of 4 into {out / '2-scl'}" in first.stderr
    other = run(*call, "--resume", "--temperature", 0.1)
    assert other.exit_code == 2
    assert f"the run in {out / '1-kl'} was started with other values of temperature" in other.stderr
    # A later stage's quarrel is found before an earlier one trains again.
    shutil.rmtree(out / "1-kl")
    assert f"the run in {out / '2-scl'} was started" in run(*call, "--resume", "--temperature", 0.1).stderr
    assert not (out / "1-kl").exists()


def test_a_resumed_run_may_change_what_only_memory_depends_on(run, data, small, tmp_path):
    call = ["--data", data["text"], "--out", tmp_path / "run", *small]
    assert run(*call).exit_code == 0
    assert run(*call, "--resume", "--tokens-per-pass", 64, "--gradient-checkpointing", "--dead-after", 9).exit_code == 0
    assert "other values of lr" in run(*call, "--resume", "--tokens-per-pass", 64, "--lr", 1e-4).stderr


@pytest.fixture
def stopped(run, monkeypatch):
    """Calls ``train`` and stops it, as ctrl-C would, when a stage has done so many steps."""

    def call(*arguments, step, folder):
        def stop(progress):
            if progress.step == step and (folder / "metrics.jsonl").is_file():
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patched:
            patched.setattr("llm2comp_apps.cli.ui.training.show_training", lambda: contextlib.nullcontext(stop))
            found = run(*arguments)
        assert "--resume continues from there" in found.stderr
        assert not (folder / "encoder").exists()

    return call


@pytest.fixture
def judged(monkeypatch):
    """The evaluation data of every call."""
    folders = []

    def dev_judge(folder):
        folders.append(folder)
        return lambda _encoder: {"score": 0.5}

    monkeypatch.setattr("llm2comp_apps.evaluation.judge.dev_judge", dev_judge)
    return folders


def learned(out: Path) -> tuple[list[float], bytes]:
    """The losses of a run, and the bytes of what it learned."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row], (out / "encoder/adapter_model.safetensors").read_bytes()


def test_a_run_is_resumed_bit_for_bit_by_its_folder_alone(run, data, small, tmp_path, stopped, judged):
    call = [
        "--stage", "scl", "--data", data["pairs"], *small, "--max-steps", 5, "--lr", 2e-3, "--lora-dropout", 0.1,
        "--instruction", "pairs*=find: ", "--eval-data", tmp_path / "dev", "--recipe", "qwen3-0.6b",
    ]  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(*call, "--out", whole).exit_code == 0
    stopped(*call, "--out", cut, step=3, folder=cut)
    before = (cut / "run.json").read_text()
    found = run("--out", cut, "--resume")
    assert found.exit_code == 0, found.output
    assert learned(cut) == learned(whole)
    assert (cut / "run.json").read_text() == before
    assert judged == [tmp_path / "dev"] * 3
    scores = [json.loads(line).get("score") for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert scores[-1] == 0.5


@pytest.mark.parametrize("stage", ["1-kl", "2-scl"])
def test_a_chain_is_resumed_bit_for_bit_by_its_folder_alone(run, data, small, tmp_path, stopped, judged, stage):
    call = ["--stage", "all", "--data", data["text"], "--data", data["pairs"], *small, "--max-steps", 4,
            "--lora-dropout", 0.1, "--eval-data", tmp_path / "dev"]  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(*call, "--out", whole).exit_code == 0
    stopped(*call, "--out", cut, step=2, folder=cut / stage)
    assert run("--out", cut, "--resume").exit_code == 0
    assert learned(cut / "1-kl") == learned(whole / "1-kl")
    assert learned(cut / "2-scl") == learned(whole / "2-scl")
    assert (cut / "encoder/encoder.json").is_file()
    assert judged == [tmp_path / "dev"] * 3


def test_the_best_encoder_is_chosen_anew_where_the_evaluation_data_change(
    run, data, small, tmp_path, stopped, monkeypatch
):
    scores = {tmp_path / "easy": [0.9, 0.8, 0.8, 0.8, 0.8], tmp_path / "hard": [0.1, 0.3, 0.2]}
    monkeypatch.setattr(
        "llm2comp_apps.evaluation.judge.dev_judge", lambda folder: lambda _encoder: {"score": scores[folder].pop(0)}
    )
    out = tmp_path / "run"
    call = ["--data", data["text"], "--out", out, *small, "--max-steps", 5, "--eval-every", 1]
    stopped(*call, "--eval-data", tmp_path / "easy", step=2, folder=out)
    found = run("--out", out, "--resume", "--eval-data", tmp_path / "hard")
    assert found.exit_code == 0, found.output
    told = f"{tmp_path / 'hard'}: other evaluation data than before ({tmp_path / 'easy'}); the best encoder is chosen"
    assert told in found.stderr
    chosen = out / "checkpoints/step-000004/adapter_model.safetensors"
    assert (out / "encoder/adapter_model.safetensors").read_bytes() == chosen.read_bytes()
    # A run whose steps are done keeps its choice, and one with the same data says nothing.
    for folder in ("easy", "hard"):
        again = run("--out", out, "--resume", "--eval-data", tmp_path / folder)
        assert (again.exit_code, "other evaluation data" in again.stderr) == (0, False)
        assert (out / "encoder/adapter_model.safetensors").read_bytes() == chosen.read_bytes()


@pytest.mark.parametrize("stage", ["kl", "all"])
def test_data_that_are_gone_are_asked_back_for_a_run_that_continues(run, data, small, tmp_path, stopped, stage):
    out = tmp_path / "run"
    call = ["--stage", stage, "--data", data["text"], "--data", data["pairs"], "--out", out, *small]
    if stage == "kl":
        call = ["--data", data["text"], "--out", out, *small]
    stopped(*call, step=1, folder=out / "1-kl" if stage == "all" else out)
    data["text"].unlink()
    found = run("--out", out, "--resume")
    assert found.exit_code == 1
    assert f"--data {data['text']}: no such file or folder" in found.stderr
    assert f"The run in {out} was started with these data, and needs them to continue: put them back" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "scl"], "was started with stage kl, not scl"),
        (["--lr", 1e-4], "was started with other values of lr;"),
        (["--data", "other.jsonl"], "was started with other values of data;"),
        (["--init", "default"], "was started with other values of init;"),
        (["--recipe", "llama-2-7b"], "was started with other values of "),
    ],
)
def test_what_is_given_again_must_agree(run, data, small, tmp_path, options, message):
    assert run("--data", data["text"], "--out", tmp_path / "run", *small).exit_code == 0
    found = run("--out", tmp_path / "run", "--resume", *options)
    assert (found.exit_code, message in found.stderr) == (2, True), found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "kl"], "was started with stage all, not kl"),
        (["--recipe", "llama-2-7b"], "was started with recipe smollm2-135m, not llama-2-7b"),
        (["--instruction", "pairs*=find: "], "was started with other values of instructions;"),
    ],
)
def test_what_is_given_again_must_agree_with_a_chain_before_its_later_stages(
    run, data, small, tmp_path, stopped, options, message
):
    out = tmp_path / "all"
    call = ["--stage", "all", "--data", data["text"], "--data", data["pairs"], "--out", out, *small]
    stopped(*call, step=1, folder=out / "1-kl")
    found = run("--out", out, "--resume", *options)
    assert (found.exit_code, message in found.stderr) == (2, True), found.stderr


def test_more_memory_for_a_resumed_run_is_remembered(run, data, small, tmp_path):
    out = tmp_path / "run"
    assert run("--data", data["text"], "--out", out, *small).exit_code == 0
    started = (out / "run.json").stat().st_mtime_ns
    assert run("--out", out, "--resume", "--tokens-per-pass", 64).exit_code == 0
    assert json.loads((out / "run.json").read_text())["tokens_per_pass"] == 64
    assert (out / "run.json").stat().st_mtime_ns == started  # the date in the name of the encoder


def test_a_folder_without_a_run_is_not_resumed_as_if_it_had_one(run, tmp_path):
    found = run("--out", tmp_path / "misspelt", "--resume")
    assert found.exit_code == 2
    assert "does not say what a run in it was started with" in found.stderr
    assert not (tmp_path / "misspelt").exists()


def test_a_run_of_an_older_version_is_resumed_by_its_folder_alone(run, data, small, tmp_path, judged):
    out = tmp_path / "run"
    assert run("--data", data["text"], "--out", out, *small, "--eval-data", tmp_path / "dev").exit_code == 0
    record = json.loads((out / "run.json").read_text())
    older = {name: value for name, value in record.items() if name not in ("eval_data", "tensorboard")}
    (out / "run.json").write_text(json.dumps(older))
    found = run("--out", out, "--resume")
    assert found.exit_code == 0, found.output
    assert "did not write down its evaluation data; none are used" in found.stderr
    assert run("--out", out, "--resume", "--eval-data", tmp_path / "dev").exit_code == 0
    assert json.loads((out / "run.json").read_text()) == record
