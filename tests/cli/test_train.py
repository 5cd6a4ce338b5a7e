"""``llm2comp train`` as people call it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import sys
from io import StringIO
from pathlib import Path
from urllib.error import URLError

import pytest
from llm2comp_train.recipes import RECIPES, resolve
from llm2comp_train.settings import Settings
from llm2comp_train.stages import STAGES
from typer.testing import CliRunner

from llm2comp_apps.cli.main import app
from llm2comp_apps.encoder import load_encoder

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
        assert re.split(r"[.'`]", setting.metadata["help"])[0][:30] in shown


def test_a_stage_then_the_next_from_it(run, data, small, tmp_path):
    kl = run("--stage", "kl", "--data", data["text"], "--out", tmp_path / "kl", *small)
    assert kl.exit_code == 0, kl.output
    assert "step 2/2" in kl.stderr
    assert not kl.stdout
    scl = run("--stage", "scl", "--data", data["pairs"], "--init", tmp_path / "kl", "--out", tmp_path / "scl", *small)
    assert scl.exit_code == 0, scl.output
    assert (tmp_path / "scl/encoder/encoder.json").is_file()
    names = [load_encoder(str(tmp_path / stage), device="cpu").name for stage in ("kl", "scl")]
    assert [re.sub(r"20\d\d-\d\d-\d\d", "DATE", name) for name in names] == ["kl-DATE", "scl-DATE"]
    saved = json.loads((tmp_path / "scl/run.json").read_text())
    assert saved["batch_size"] == 4
    assert saved["temperature"] == 0.05


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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stage", "mlm"], 2, "--stage must be one of ebar, kl, "),
        (["--recipe", "gpt"], 2, "--recipe must be one of smollm2-135m, "),
        (["--lr", "-1"], 2, "--lr must be above 0, not -1.0"),
        (["--context", "many"], 2, "--context must be lengths such as 16,24,32, or 'random', not many"),
        (["--instruction", "query"], 2, "write FILE=TEXT"),
        (["--data", "nowhere.jsonl"], 1, "--data nowhere.jsonl: no such file"),
        (["--data", "text.jsonl", "--eval-data", "nowhere"], 2, "--eval-data cannot be used: nowhere: no such folder"),
        (["--data", "text.jsonl", "--eval-data", "nowhere"], 2, "nowhere: no such folder\n"),
        (
            ["--data", "text.jsonl", "--eval-data", "other"],
            2,
            "--eval-data cannot be used: other: none of the datasets of suite 'dev'",
        ),
        (
            ["--data", "text.jsonl", "--lora-targets", "nothing"],
            2,
            "no linear layer called nothing; it has down_proj, ",
        ),
        (["--data", "text.jsonl", "--lora-targets", "q_proj,nothing"], 2, "no linear layer called nothing; it has"),
        (["--seed", "9999999999999999999"], 2, "--seed must be from 0 to 4294967295, not 9999999999999999999"),
        (["--instruction", "text*=find: "], 2, "--instruction cannot be used: the rows of stage kl have no queries"),
        (
            ["--stage", "scl", "--data", "pairs.jsonl", "--instruction", "nosuchfile*=find: "],
            2,
            "--instruction 'nosuchfile*' matches none of the data files (pairs.jsonl)",
        ),
        (
            ["--stage", "all", "--data", "text.jsonl", "--data", "pairs.jsonl", "--instruction", "nosuchfile*=find: "],
            2,
            "--instruction 'nosuchfile*' matches none of the data files (pairs.jsonl)",
        ),
        (
            ["--stage", "all", "--data", "text.jsonl", "--data", "pairs.jsonl", "--teacher", "bm25"],
            1,
            "encoder bm25: not a directory",
        ),
        (["--stage", "scl", "--data", "pairs.jsonl", "--teacher", "bm25"], 1, "encoder bm25: not a directory"),
        (
            ["--stage", "ebar", "--data", "text.jsonl", "--k", "1"],
            2,
            "--k must be at least 2, not 1: ebar has",
        ),
        (
            ["--data", "text.jsonl", "--attention", "flash"],
            2,
            "--attention must be one of auto, eager, ",
        ),
        (["--data", "text.jsonl", "--data", "./text.jsonl"], 1, "two data files are called text.jsonl (text.jsonl, "),
        (["--data", "pairz/text.jsonl"], 1, "--data pairz/text.jsonl: no such file"),
        (["--data", "a**b.jsonl"], 1, "--data a**b.jsonl: "),
    ],
)
def test_wrong_calls_get_one_line_and_leave_nothing(run, data, small, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    row = {"sentence1": "a", "sentence2": "b", "score": 1}
    (tmp_path / "other/likeness").mkdir(parents=True)
    (tmp_path / "other/likeness/test.jsonl").write_text(json.dumps(row) + "\n")
    found = run("--out", tmp_path / "run", *small, *arguments)
    assert found.exit_code == code, found.output
    assert message in found.stderr
    assert isinstance(found.exception, SystemExit)
    assert not (tmp_path / "run").exists()


def test_what_breaks_off_before_the_first_step_does_not_claim_the_directory(run, data, small, tmp_path):
    out, broken = tmp_path / "run", tmp_path / "broken.jsonl"
    broken.write_text('{"txt": "a few words"}\n', "utf-8")
    assert "broken.jsonl:1" in run("--data", broken, "--out", out, *small).stderr
    for options in ([], ["--resume"]):
        assert "broken.jsonl:1" in run("--data", broken, "--out", out, *small, *options).stderr
    found = run("--data", data["text"], "--out", out, *small, "--resume")
    assert found.exit_code == 0, found.output
    assert json.loads((out / "run.json").read_text())["data"] == [str(data["text"])]
    assert run("--data", data["text"], "--out", out, *small).exit_code == 2  # now it is a run


def test_token_ids_of_a_call_that_broke_off_are_not_taken_for_those_of_the_next(run, data, small, tmp_path):
    out, others = tmp_path / "run", tmp_path / "others.jsonl"
    others.write_text("".join(json.dumps({"text": f"other words {number}"}) + "\n" for number in range(9)), "utf-8")
    assert run("--data", others, "--out", out, *small, "--lr", 1e30, "--max-steps", 1).exit_code in (0, 1)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    (out / "metrics.jsonl").unlink(missing_ok=True)
    assert run("--data", data["text"], "--out", out, *small, "--resume").exit_code == 0
    assert json.loads((out / "data/store.json").read_text())["names"] == ["text.jsonl"]


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


def test_help_shows_what_the_default_recipe_sets(run):
    shown = " ".join(run("--help").output.split())
    assert "over all processes. [16; scl, ucl, align: 64]" in shown
    assert "Optimiser steps. [600; ucl: 150; align: 3000; rerank: 1500]" in shown


def test_the_settings_of_a_recipe_are_shown(run):
    found = run("--show-recipe", "--device", "cuda", "--recipe", "llama-2-7b", "--lr", 2e-4, "--json")
    assert found.exit_code == 0, found.output
    value = json.loads(found.stdout)
    assert (value["recipe"], value["form"], list(value["stages"])) == ("llama-2-7b", "GPU", ["kl", "ucl", "scl"])
    for stage, settings in value["stages"].items():
        assert settings == dataclasses.asdict(resolve("llama-2-7b", stage, {"lr": 2e-4}, gpu=True))
    table = run("--show-recipe", "--device", "cpu", "--stage", "scl").stdout
    assert "smollm2-135m, CPU form" in table
    assert re.search(r"batch_size +64 ", table)


class Hub:
    """Stands in for ``datasets.load_dataset``; ``asked`` lists what was wanted."""

    def __init__(self):
        self.asked = []

    def __call__(self, name, configuration, *, split, streaming):
        assert streaming
        self.asked.append(f"{name}:{configuration}:{split}")
        draw = random.Random(name)
        texts = [" ".join(draw.choices(WORDS, k=12)) for _ in range(30)]
        if name.startswith("sentence-transformers"):
            return [{"anchor": text, "positive": text[::-1]} for text in texts]
        return [{"text": text} for line in texts for text in (line, "")]


def test_without_data_each_stage_takes_the_papers_sets_from_the_hub(run, small, tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("llm2comp_train.data.sources.urlopen", lambda *_, **__: StringIO())
    monkeypatch.setattr("datasets.load_dataset", hub)
    found = run("--stage", "all", "--recipe", "llama-2-7b", "--out", tmp_path / "all", *small, "--min-chars", 1)
    assert found.exit_code == 0, found.output
    assert hub.asked[:2] == [
        "Salesforce/wikitext:wikitext-103-raw-v1:train", "JeremiahZ/simcse_unsup_wiki:None:train"
    ]  # fmt: skip
    assert "sentence-transformers/natural-questions:pair:train" in hub.asked[2:]
    assert "sentence-transformers/all-nli:triplet:train" in hub.asked[2:]
    assert json.loads((tmp_path / "all/2-ucl/run.json").read_text())["data"] == ["JeremiahZ/simcse_unsup_wiki"]


@pytest.mark.parametrize("stage", ["kl", "ucl", "scl"])
def test_without_data_and_hub_one_line_names_the_flag(run, small, tmp_path, monkeypatch, stage):
    def fail(*_arguments, **_options):
        raise URLError("Name or service not known\nand more")

    monkeypatch.setattr("llm2comp_train.data.sources.urlopen", fail)
    found = run("--stage", stage, "--out", tmp_path / "run", *small)
    assert found.exit_code == 1
    (line,) = [line for line in found.stderr.splitlines() if "error" in line.lower()]
    assert "cannot be read (<urlopen error Name or service not known" in line
    assert "--data" in line


def test_align_takes_several_teachers_with_weights(run, data, small, tiny_encoder_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    call = ["--stage", "align", "--data", data["text"], "--data", data["pairs"], "--out", tmp_path / "align", *small]
    missing = run(*call)
    assert missing.exit_code == 2
    assert "--teacher is missing: stage align needs an encoder to learn from" in missing.stderr
    teachers = ["--teacher", f"{tiny_encoder_dir}=0.25", "--teacher", tiny_encoder_dir]
    found = run(*call, *teachers, "--layers", "0,", "--fit-texts", 8)
    assert found.exit_code == 0, found.output
    assert "teacher tiny: " in found.stderr
    assert (
        json.loads((tmp_path / "align/run.json").read_text())["teacher"]
        == f"{tiny_encoder_dir}=0.25,{tiny_encoder_dir}"
    )
    made = json.loads((tmp_path / "align/encoder/encoder.json").read_text())
    assert [teacher["weight"] for teacher in made["training"]["alignment"]["teachers"]] == [0.25, 1.0]
    assert (made["layers"], made["own_layers"]) == ([0], True)


def test_rows_are_counted_from_the_start(run, data, small, tmp_path):
    assert run("--data", data["text"], "--out", tmp_path / "kl", *small, "--max-rows", 12).exit_code == 0
    assert len((tmp_path / "kl/data/lines.npy").read_bytes()) == 128 + 12 * 8


class Terminal(StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left(monkeypatch):
    from llm2comp_train.engine.loop import Progress

    from llm2comp_apps.cli.ui.training import show_training

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_training() as show:
        show(Progress(1, 40, 2.5, 900.0, 75.0, {}))
        show(Progress(20, 40, 1.25, 1000.0, 40.0, {"gain": 0.5}))
        shown = sys.stderr.getvalue()
        assert "step 20  gain 0.500" in shown
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stderr.getvalue())
    assert "20/40 loss 1.2500  1000 tokens/s  40 s left" in shown


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
    missing = run("mine-negatives", data["pairs"], "--encoder", "nosuch", "--out", tmp_path / "missing" / "x.jsonl")
    assert missing.exit_code == 2
    assert f"--out {tmp_path / 'missing' / 'x.jsonl'}: there is no folder {tmp_path / 'missing'}" in missing.stderr
    again = run("--stage", "scl", "--data", mined, "--out", tmp_path / "scl", *small)
    assert again.exit_code == 0, again.output


def test_a_run_needs_a_directory(run, data):
    found = run("--stage", "kl", "--data", data["text"])
    assert found.exit_code == 2
    assert "--out is missing" in found.stderr
