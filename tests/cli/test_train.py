"""``llm2comp train`` as people call it."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import sys
from io import StringIO
from urllib.error import URLError

import pytest
from llm2comp_train.recipes import RECIPES, resolve
from llm2comp_train.settings import Settings
from llm2comp_train.stages import STAGES

from llm2comp_apps.encoder import load_encoder

WORDS = ["a", "few", "words", "so", "that", "there", "is", "something", "to", "learn"]


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
            ["--stage", "scl", "--data", "pairs.jsonl", "--symmetric", "pairs*,nosuchfile*"],
            2,
            "--symmetric 'nosuchfile*' matches none of the data files (pairs.jsonl)",
        ),
        (
            ["--stage", "all", "--data", "text.jsonl", "--data", "pairs.jsonl", "--symmetric", "nosuchfile*"],
            2,
            "--symmetric 'nosuchfile*' matches none of the data files (pairs.jsonl)",
        ),
        (
            ["--stage", "scl", "--data", "pairs.jsonl", "--teacher", "default=2"],
            2,
            "--teacher may have no weight in stage scl, not 2 for default: weights belong to stage align; "
            "--teacher-weight is the share of the teacher's loss",
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
