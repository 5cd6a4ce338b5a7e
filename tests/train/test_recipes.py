"""Recipes as records, and what is run for one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from llm2comp_train.engine import chain
from llm2comp_train.engine.run import RunOptions
from llm2comp_train.recipes import RECIPES, default_values, recipe_record, recipe_table, resolve
from llm2comp_train.settings import Settings, parse_instructions, passed_over

from llm2comp_apps.errors import UsageError


def test_a_record_has_the_settings_of_the_stage_or_of_the_chain():
    record = json.loads(json.dumps(recipe_record("llama-2-7b", "scl", {"lr": 2e-4, "k": None})))
    assert (record["form"], list(record["stages"])) == ("CPU", ["scl"])
    assert record["stages"]["scl"] == dataclasses.asdict(resolve("llama-2-7b", "scl", {"lr": 2e-4}))
    chained = recipe_record("smollm2-135m", "all", gpu=True)
    assert (chained["form"], tuple(chained["stages"])) == ("GPU", RECIPES["smollm2-135m"].chain)
    with pytest.raises(UsageError, match="not 'gpt'"):
        recipe_record("gpt", "all")


def test_the_table_of_a_recipe_has_a_column_for_each_stage():
    table = recipe_table(recipe_record("smollm2-135m", "all", {"lr": 2e-4}))
    assert (table.title, table.header) == ("smollm2-135m, CPU form", ["setting", "kl", "scl"])
    assert [row[0] for row in table.rows] == [setting.name for setting in dataclasses.fields(Settings)]
    assert ["lr", "0.0002", "0.0002"] in table.rows


def test_default_values_name_the_stages_that_differ():
    assert default_values("max_steps") == "600; ucl: 150; align: 3000; rerank: 1500"
    assert default_values("k") == "8"


def test_several_values_of_a_setting_are_joined():
    assert resolve("smollm2-135m", "align", {"teacher": ["a=0.5", "b"], "k": None}).teacher == "a=0.5,b"
    assert resolve("smollm2-135m", "align", {"teacher": []}) == resolve("smollm2-135m", "align")


def test_who_counts_texts_does_not_get_the_recipes_tokens():
    assert resolve("smollm2-135m", "rerank").batch_tokens > 0
    found = resolve("smollm2-135m", "rerank", {"batch_size": 6})
    assert (found.batch_size, found.batch_tokens) == (6, 0)
    assert resolve("smollm2-135m", "rerank", {"batch_size": 6, "batch_tokens": 512}).batch_tokens == 512


def test_who_cuts_texts_shorter_does_not_get_the_recipes_longer_contexts():
    assert resolve("smollm2-135m", "kl", {}, gpu=True).contexts == (32, 64, 96, 128)
    assert resolve("smollm2-135m", "kl", {"max_length": 64}, gpu=True).contexts == (32, 64)
    assert resolve("smollm2-135m", "kl", {"max_length": 20}, gpu=True).contexts == (20,)
    assert resolve("smollm2-135m", "kl", {"max_length": 64, "context": "96"}, gpu=True).contexts == (96,)
    assert resolve("smollm2-135m", "kl", {"max_length": 64, "context": "random"}, gpu=True).context == "random"


@pytest.mark.parametrize(
    ("stage", "given", "line"),
    [
        ("kl", {"teacher": ["quality"]}, "`teacher` is for scl, align: passed over by kl"),
        ("align", {"crop": False}, "`crop` is for rc, nll, kl, ebar, mntp: passed over by align"),
        ("all", {"topics": 0, "lr": 1e-3}, "`topics` is for align: passed over by kl, scl"),
    ],
)
def test_a_setting_of_other_stages_is_passed_over_in_a_line(stage, given, line, monkeypatch):
    for name in ("run_stage", "run_chain"):
        monkeypatch.setattr(chain, name, lambda *_, **__: Path("encoder"))
    said: list[str] = []
    options = RunOptions(data=[], out=Path("out"), device="cpu", say=said.append)
    chain.run_recipe("smollm2-135m", stage, given, options)
    assert line in said
    assert sum("passed over" in each for each in said) == 1


def test_settings_of_one_stage_of_a_chain_are_read():
    unsaid = {"topics": None, "teacher": []}
    assert not passed_over({"temperature": 0.1, "context": "8,16", "lr": 1e-3} | unsaid, ("kl", "scl"))
    assert not passed_over({"temperature": 0.1} | unsaid, ("a stage that was added",))


def test_instructions_by_file():
    assert parse_instructions(["med*=question: ", "a=b=c"]) == {"med*": "question: ", "a": "b=c"}
    with pytest.raises(UsageError, match="write FILE=TEXT"):
        parse_instructions(["query"])


def test_a_stage_of_a_recipe_takes_the_recipes_data_and_form(monkeypatch, tmp_path):
    ran, lines = [], []

    def run_stage(stage, settings, options):
        ran.append((stage, settings, options.data))
        return Path("encoder")

    monkeypatch.setattr(chain, "run_stage", run_stage)
    given = RunOptions(data=[], out=tmp_path, device="cuda", say=lines.append)
    assert chain.run_recipe("qwen3-0.6b", "ucl", {"max_steps": 3}, given) == Path("encoder")
    chain.run_recipe("qwen3-0.6b", "ucl", {}, dataclasses.replace(given, data=["mine.jsonl"], device="cpu"))
    assert ran == [
        ("ucl", resolve("qwen3-0.6b", "ucl", {"max_steps": 3}, gpu=True), ["JeremiahZ/simcse_unsup_wiki"]),
        ("ucl", resolve("qwen3-0.6b", "ucl"), ["mine.jsonl"]),
    ]
    chain.run_recipe("smollm2-135m", "align", {"max_steps": 3, "batch_tokens": 1300}, given)
    assert [lines[0], lines[-1]] == [
        f"stage ucl, recipe qwen3-0.6b: 3 steps of 128 into {tmp_path}",
        f"stage align, recipe smollm2-135m: 3 steps of 1,300 tokens into {tmp_path}",
    ]


def test_the_chain_of_a_recipe_is_run_for_all(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(chain, "run_chain", lambda *given, **form: calls.append((*given, form)) or tmp_path)
    options = RunOptions(data=["a"], out=tmp_path, device="cuda:1")
    assert chain.run_recipe("smollm2-135m", "all", {"k": 4}, options) == tmp_path
    assert calls == [("smollm2-135m", {"k": 4}, options, {"gpu": True})]
