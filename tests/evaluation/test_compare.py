"""Comparing encoders from Python: checks before loading, the report on disk, what failed."""

from __future__ import annotations

import json
import sys

import pytest

from llm2comp_apps.errors import UsageError
from llm2comp_apps.evaluation import compare, load_tasks
from llm2comp_apps.evaluation.compare import choose_tasks
from llm2comp_apps.evaluation.table import TableOptions


@pytest.fixture
def loaded(monkeypatch, make_hash_encoder):
    """Names of the encoders that were loaded; any name loads."""
    names = []

    def load(name, *, backbone=None, device=None):
        names.append(name)
        return make_hash_encoder(seed=name)

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", load)
    return names


def test_two_encoders_and_bm25_side_by_side(loaded, data, tmp_path):
    tasks = load_tasks("offline", data, ["library", "groups"])
    cells = []
    outcome = compare(
        ["a", "again=a", "bm25"],
        tasks,
        tmp_path / "out",
        against="again",
        about={"suite": "mine"},
        on_cell=lambda system, result, kept: cells.append((system.label, result.task, kept)),
    )
    assert (outcome.failures, outcome.warnings, loaded) == ([], [], ["a", "a"])
    assert sorted(cells) == [
        ("a", "groups", False), ("a", "library", False), ("again", "groups", False), ("again", "library", False),
        ("bm25", "library", False),
    ]  # fmt: skip
    assert outcome.report.reference == "again"
    assert [path.name for path in outcome.files] == ["report.md", "report.html", "report.json"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["settings"]["suite"] == "mine"
    assert written["settings"]["encoders"] == ["a", "again=a", "bm25"]
    assert written["table"] == json.loads(json.dumps(outcome.report.to_json()))["table"]


def test_a_page_that_cannot_be_drawn_is_a_warning(loaded, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = compare(["a"], load_tasks("offline", data, ["groups"]), tmp_path)
    assert [path.name for path in outcome.files] == ["report.md", "report.json"]
    assert [line.partition(":")[0] for line in outcome.warnings] == ["no report.html"]


@pytest.mark.parametrize(
    ("call", "line", "field"),
    [
        ({"encoders": []}, "nothing to evaluate", None),
        ({"encoders": ["a", "baseline:nope"]}, "baseline 'nope' is unknown", None),
        ({"encoders": ["a", "bm25"]}, "bm25 ranks documents and has no embeddings", None),
        ({"against": "b"}, "against 'b': no such row; there are a", "against"),
        ({"options": TableOptions(prompt_overrides={"x": ""})}, "x=...: no task or category", "prompt_overrides"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(loaded, data, tmp_path, call, line, field):
    with pytest.raises(UsageError, match=line) as caught:
        compare(**{"encoders": ["a"], "tasks": load_tasks("offline", data, ["groups"]), "out": tmp_path / "out"} | call)
    assert caught.value.field == field
    assert loaded == []
    assert not (tmp_path / "out").exists()


def test_a_suite_of_files_needs_their_folder():
    with pytest.raises(UsageError, match="data is missing"):
        load_tasks("nano", None)


def test_an_unknown_mode_of_instructions_is_refused():
    with pytest.raises(UsageError, match="instructions must be one of auto, task, none, not 'some'"):
        TableOptions(instructions="some")


def test_chosen_tasks_say_what_the_data_lack(data, jsonl):
    rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in (0, 5)]
    jsonl(data / "sts" / "stsbenchmark" / "test.jsonl", rows)
    chosen = choose_tasks("core", data)
    assert chosen.about == {"suite": "core", "data": str(data)}
    (line,) = chosen.warnings
    assert line.startswith(f"suite core: {data} lacks ")
    assert [row["task"] for row in chosen.to_json()] == [task.name for task in chosen.tasks]
    named = choose_tasks("offline", data, ["library"])
    assert ([task.name for task in named.tasks], named.warnings) == (["library"], [])


def test_without_a_report_there_is_nothing_to_show(data, tmp_path):
    outcome = compare(["pypi:no-such"], load_tasks("offline", data, ["library"]), tmp_path)
    assert (outcome.tables(), outcome.to_json()) == ([], {})
    assert len(outcome.failures) == 1
