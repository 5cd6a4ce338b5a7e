"""The examples run, on tiny data and a tiny encoder; they are short, and use public names only."""

from __future__ import annotations

import ast
import importlib
import json
import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
TEXTS = {
    "cells": "Cells divide by mitosis. Before a cell divides it copies its chromosomes.",
    "stars": "Stars are born in clouds of gas. A star burns hydrogen for most of its life.",
    "bread": "Bread rises because yeast makes gas. The dough rests before it is baked.",
}
PUBLIC = {"llm2comp_apps", "llm2comp_apps.evaluation", "llm2comp_train", "llm2comp_indexes"}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Calls the ``main`` of an example in an empty folder; returns the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: object, **settings: object) -> list[str]:
        path = next(path for path in EXAMPLES if path.stem == name)
        runpy.run_path(str(path))["main"](*arguments, **settings)
        return capsys.readouterr().out.splitlines()

    return call


@pytest.fixture
def notes(tmp_path) -> str:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    return "notes/"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_use_public_names(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 40
    tree = ast.parse(text)
    assert f"python examples/{path.name}" in (ast.get_docstring(tree) or "")
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "llm2comp" in str(node.module)]
    assert modules
    for node in modules:
        assert node.module in PUBLIC
        offered = importlib.import_module(str(node.module)).__all__
        assert {alias.name for alias in node.names} <= set(offered), ast.unparse(node)


def test_search_folder(run, notes, tiny_encoder_dir) -> None:
    first = run("search_folder", notes, "mitosis", str(tiny_encoder_dir))
    assert first[0] == "3 added, 0 unchanged"
    assert any("cells" in line and "mitosis" in line for line in first[1:])
    assert run("search_folder", notes, "mitosis")[0] == "0 added, 3 unchanged"


def test_search_folder_has_an_index_for_each_folder(run, notes, tiny_encoder_dir, tmp_path, monkeypatch) -> None:
    for name in ("notes.1", "notes.2"):
        (tmp_path / notes).rename(tmp_path / name)
        assert run("search_folder", name, "mitosis", str(tiny_encoder_dir))[0] == "3 added, 0 unchanged"
        assert (tmp_path / f"{name}.index").is_dir()
        (tmp_path / name).rename(tmp_path / notes)
    monkeypatch.chdir(tmp_path / notes)
    assert run("search_folder", ".", "mitosis", str(tiny_encoder_dir))[0] == "3 added, 0 unchanged"


def test_filter_and_chunk(run, tiny_encoder_dir) -> None:
    counted, free, filtered, like = run("filter_and_chunk", str(tiny_encoder_dir))
    documents, chunks = (int(word) for word in counted.split() if word.isdigit())
    assert documents == 3 < chunks
    assert all(name in free for name in ("cells-1990", "cells-2020", "bread"))
    assert filtered.endswith("['cells-2020']")
    assert like.startswith("like bread: ['cells-")


def test_train_encoder(run, tmp_path, tiny_encoder_dir) -> None:
    rows = "".join(json.dumps({"text": f"{text} {text} Note {i}."}) + "\n" for text in TEXTS.values() for i in range(8))
    (tmp_path / "texts.jsonl").write_text(rows)
    lines = run("train_encoder", "texts.jsonl", "runs/kl", str(tiny_encoder_dir.parent / "backbone"), 3)
    assert lines[0].endswith(str(Path("runs/kl/encoder")))
    assert (tmp_path / "runs/kl/encoder/adapter_model.safetensors").is_file()
    assert len(lines) == 4, "a matrix of three rows follows"


def test_compare_encoders(run, tmp_path, tiny_encoder_dir) -> None:
    folder = tmp_path / "data" / "pairs"
    folder.mkdir(parents=True)
    pairs = [(a, b, 5.0 if a == b else float(i)) for i, a in enumerate(TEXTS.values()) for b in TEXTS.values()]
    rows = [json.dumps({"sentence1": a, "sentence2": f"{b} So it is.", "score": score}) for a, b, score in pairs]
    (folder / "test.jsonl").write_text("\n".join(rows))
    baseline = f"baseline:wmp@{tiny_encoder_dir.parent / 'backbone'}"
    head, *scores = run("compare_encoders", "data", str(tiny_encoder_dir), baseline)
    assert head.split("\t") == ["encoder", "pairs"]
    assert [line.split("\t")[0] for line in scores] == [str(tiny_encoder_dir), baseline]
    assert all(-100 <= float(line.split("\t")[1]) <= 100 for line in scores)


def test_topics(run, tmp_path, tiny_encoder_dir) -> None:
    for name, first in (("papers", 0), ("new", 20)):
        rows = [{"_id": f"{key}{i}", "text": f"{text} Note {i}."} for key, text in TEXTS.items() for i in range(20)]
        rows = [row | {"_id": f"{row['_id']}-{first}", "text": f"{row['text']} {first}"} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = run("topics", "papers.jsonl", "new.jsonl", "papers.clusters", str(tiny_encoder_dir))
    found = [line for line in lines if line.split()[1].isdigit()]
    assert sum(int(line.split()[1]) for line in found) > 40, "most documents have a topic"
    assert any(line.startswith("60 added; grown: {0: ") for line in lines)
    assert (tmp_path / "papers.clusters" / "map.html").is_file()


@pytest.fixture
def papers(tmp_path):
    rows = [{"_id": f"{key}{i}", "text": f"{text} Note {i}."} for key, text in TEXTS.items() for i in range(20)]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "papers.jsonl"


@pytest.fixture
def exported(tmp_path, tiny_encoder_dir, monkeypatch):
    """The folder of a tiny encoder; that it is compared in a process of its own is tested elsewhere."""
    from llm2comp_apps.encoder.publishing import alone, comparison, export

    def compare(folder, kind, texts, expected):
        return comparison.compared(texts, alone.vectors_of(str(folder), kind, texts), expected)

    monkeypatch.setattr(export, "compare", compare)
    return "exported", str(tiny_encoder_dir)


def test_bertopic_model(run, papers, exported) -> None:
    pytest.importorskip("bertopic", reason="needs bertopic")
    found = [line.split(maxsplit=2) for line in run("bertopic_model", papers, *exported)]
    assert sum(int(count) for _, count, _ in found) == 60
    assert len(found) >= 2
    words = [words for _, _, words in found]
    assert any("mitosis" in each for each in words)
    assert any("dough" in each for each in words)


def test_txtai_search(run, papers, exported) -> None:
    pytest.importorskip("txtai", reason="needs txtai")
    best, *_ = run("txtai_search", papers, "Bread rises because yeast makes gas. The dough rests.", *exported)
    assert best.split()[1].startswith("bread")


def test_all_of_them_are_tested() -> None:
    assert {f"test_{path.stem}" for path in EXAMPLES} <= set(globals())
