"""``llm2comp train`` as people call it."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from llm2comp_train.recipes import RECIPES, STAGES, Settings, resolve
from typer.testing import CliRunner

from llm2comp_apps.cli.main import app

WORDS = ["a", "few", "words", "so", "that", "there", "is", "something", "to", "learn"]


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(app, ["train", *map(str, arguments)])

    return call


@pytest.fixture
def data(tmp_path) -> dict[str, Path]:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=8)) + f" {number}" for number in range(40)]
    found = {"text": tmp_path / "text.jsonl", "pairs": tmp_path / "pairs.jsonl"}
    found["text"].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    rows = [{"query": text, "positive": text[::-1]} for text in texts]
    found["pairs"].write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return found


@pytest.fixture
def small(tiny_encoder_dir):
    backbone = json.loads((tiny_encoder_dir / "encoder.json").read_text())["backbone"]
    return [
        "--backbone", backbone, "--k", 4, "--max-steps", 2, "--batch-size", 4, "--context", "4,6", "--continuation", 4,
        "--validation-texts", 4, "--dead-gain", -9, "--float32-layers", 0, "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip


def test_help_shows_every_setting_with_its_meaning(run):
    shown = " ".join(run("--help").output.split())
    for setting in dataclasses.fields(Settings):
        assert f"--{setting.name.replace('_', '-')}" in shown
        assert setting.metadata["help"].split(".")[0].split("'")[0][:30] in shown


def test_a_stage_then_the_next_from_it(run, data, small, tmp_path):
    kl = run("--stage", "kl", "--data", data["text"], "--out", tmp_path / "kl", *small)
    assert kl.exit_code == 0, kl.output
    assert "step 2/2" in kl.stderr
    assert not kl.stdout
    scl = run("--stage", "scl", "--data", data["pairs"], "--init", tmp_path / "kl", "--out", tmp_path / "scl", *small)
    assert scl.exit_code == 0, scl.output
    assert (tmp_path / "scl/encoder/encoder.json").is_file()
    saved = json.loads((tmp_path / "scl/run.json").read_text())
    assert saved["batch_size"] == 4
    assert saved["temperature"] == 0.05


def test_all_stages_in_one_call_and_again_with_resume(run, data, small, tmp_path):
    call = ["--stage", "all", "--data", data["text"], "--data", data["pairs"], "--out", tmp_path / "all", *small]
    assert run(*call).exit_code == 0
    assert (tmp_path / "all/1-kl/encoder/encoder.json").is_file()
    assert (tmp_path / "all/2-scl/encoder/encoder.json").is_file()
    again = run(*call, "--resume")
    assert again.exit_code == 0
    assert "step" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stage", "mlm"], 2, "stage 'mlm' is unknown"),
        (["--recipe", "gpt"], 2, "recipe 'gpt' is unknown"),
        (["--lr", "-1"], 2, "--lr -1.0: must be above 0"),
        (["--context", "many"], 2, "--context many"),
        (["--instruction", "query"], 2, "write FILE=TEXT"),
        (["--data", "nowhere.jsonl"], 1, "--data nowhere.jsonl: no such file"),
        ([], 1, "no training data"),
    ],
)
def test_wrong_calls_get_one_line(run, small, tmp_path, arguments, code, message):
    found = run("--out", tmp_path / "run", *small, *arguments)
    assert found.exit_code == code
    assert message in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("gpu", [False, True])
def test_every_recipe_resolves_for_every_stage(recipe, gpu):
    for stage in STAGES:
        settings = resolve(recipe, stage, gpu=gpu)
        rates = [settings.lr_at(step) for step in range(settings.max_steps)]
        assert max(rates) <= settings.lr * 1.0001
        assert rates[0] < settings.lr
    assert set(RECIPES[recipe].chain) <= set(STAGES)


def test_mined_negatives_train_on(run, data, small, tiny_encoder_dir, tmp_path):
    mined = tmp_path / "mined.jsonl"
    found = run("mine-negatives", data["pairs"], "--encoder", tiny_encoder_dir, "--out", mined, "--device", "cpu")
    assert found.exit_code == 0, found.output
    assert found.stderr.startswith("40 pairs")
    assert len(mined.read_text("utf-8").splitlines()) == 40
    assert run("mine-negatives", data["pairs"], "--encoder", tiny_encoder_dir, "--out", mined).exit_code == 2
    again = run("--stage", "scl", "--data", mined, "--out", tmp_path / "scl", *small)
    assert again.exit_code == 0, again.output


def test_a_run_needs_a_directory(run, data):
    found = run("--stage", "kl", "--data", data["text"])
    assert found.exit_code == 2
    assert "--out is missing" in found.stderr
