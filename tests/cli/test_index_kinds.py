"""Kinds on the command line: where they are trained, and what a refusal looks like."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import Index, KindError
from llm2comp_indexes.core import writer
from llm2comp_indexes.dense import build, kinds
from llm2comp_indexes.storage import merging


@pytest.fixture
def small_segments(monkeypatch):
    """Segments of more than 20 rows get a FAISS index, and are not merged with the next."""
    monkeypatch.setattr(kinds, "SMALL_ROWS", 20)
    monkeypatch.setattr(merging, "SMALL_ROWS", 20)


@pytest.fixture
def refusing(small_segments, monkeypatch):
    """Every kind misses its target; lists the sizes of the segments for which it was tried."""
    tried = []

    def refuse(index, segment, policy, device):
        if kinds.is_small(policy, segment.record.rows):
            return
        tried.append(segment.record.rows)
        raise KindError(f"kind {policy.kind} is refused (recall 0.41 where 0.95 is wanted)")

    monkeypatch.setattr(writer, "build_ann", refuse)
    return tried


@pytest.fixture
def trained_on(small_segments, monkeypatch):
    """The device of each call of ``build_ann``, on a machine where FAISS sees a GPU."""
    devices = []

    def spy(index, segment, policy, device):
        devices.append(device)
        return build.build_ann(index, segment, policy, "cpu")

    monkeypatch.setattr(writer, "build_ann", spy)
    for module in ("llm2comp_indexes", "llm2comp_indexes.dense.gpu"):
        monkeypatch.setattr(f"{module}.gpu_count", lambda: 1)
    return devices


def warnings_in(result):
    return [line for line in result.stderr.splitlines() if line.startswith("Warning")]


def test_faiss_indexes_are_trained_on_the_device(cli, encoders, write_corpus, trained_on):
    corpus = write_corpus(60)
    assert cli("index", "build", corpus, "--kind", "sq8", "--device", "cuda").exit_code == 0
    assert trained_on == ["cuda"]
    assert cli("index", "add", "corpus.index", write_corpus(150), "--device", "cuda").exit_code == 0
    assert trained_on == ["cuda"] * 2
    cli("index", "export", "corpus.index", "all.parquet")
    cli("index", "export", "corpus.index", "all.npy")
    imported = [["all.parquet", "-o", "a.index"], ["all.npy", corpus, "-o", "b.index"]]
    for arguments in imported:
        assert cli("index", "import", *arguments, "--kind", "sq8", "--device", "cuda").exit_code == 0
    assert trained_on == ["cuda"] * 4
    assert cli("index", "compact", "corpus.index", "--device", "cuda").exit_code == 0
    assert trained_on == ["cuda"] * 5
    assert Index.open("corpus.index").info().kind == "SQ8"
    assert cli("index", "build", write_corpus(60, "other.jsonl"), "--kind", "sq8").exit_code == 0
    assert trained_on[5:] == ["cpu"]


def test_a_refused_kind_is_a_warning_after_the_report(cli, encoders, write_corpus, refusing):
    result = cli("index", "build", write_corpus(40), "-o", "x.index", "--kind", "PQ4x4")
    assert result.exit_code == 0
    report, warning = result.stderr.splitlines()[-2:]
    assert "40 documents added" in report
    assert warning == (
        "Warning: kind PQ4x4 is refused (recall 0.41 where 0.95 is wanted): the 40 documents are safe and searched "
        "exactly; compact chooses another kind"
    )
    assert len(Index.open("x.index")) == 40
    assert "PQ4x4 is refused (recall 0.41" in cli("index", "info").stdout


def test_a_refusal_is_told_once_and_stops_no_later_command(cli, encoders, write_corpus, refusing):
    cli("index", "build", write_corpus(40), "--kind", "PQ4x4")
    again = cli("index", "build", write_corpus(44))
    assert (again.exit_code, warnings_in(again)) == (0, [])
    deleted = cli("index", "delete", "corpus.index", "--id", "cells-0")
    assert (deleted.exit_code, warnings_in(deleted)) == (0, [])
    assert refusing == [40]
    added = cli("index", "add", "corpus.index", write_corpus(120), "--json")
    assert (added.exit_code, len(warnings_in(added))) == (0, 1)
    assert "the 120 documents are safe" in warnings_in(added)[0]
    assert json.loads(added.stdout)["refusal"] == "kind PQ4x4 is refused (recall 0.41 where 0.95 is wanted)"


def test_a_refused_kind_does_not_undo_an_import(cli, encoders, write_corpus, refusing):
    corpus = write_corpus(40)
    cli("index", "build", corpus)
    for suffix, arguments in ((".parquet", []), (".npy", [corpus])):
        cli("index", "export", "corpus.index", f"all{suffix}")
        output = f"back{suffix}.index"
        result = cli("index", "import", f"all{suffix}", *arguments, "-o", output, "--kind", "PQ4x4", "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout) == {
            "index": output,
            "documents": 40,
            "refusal": "kind PQ4x4 is refused (recall 0.41 where 0.95 is wanted)",
        }
        refused, unknown = warnings_in(result)
        assert "PQ4x4 is refused" in refused
        assert "searched by words only" in unknown
        assert len(Index.open(output)) == 40


def test_a_failure_after_the_commit_does_not_undo_an_import_either(cli, write_corpus, small_segments, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    np.save("x.npy", np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    monkeypatch.setattr(writer, "build_ann", fail)
    result = cli("index", "import", "x.npy", write_corpus(40), "-o", "x.index", "--kind", "sq8")
    assert result.exit_code == 130
    assert len(Index.open("x.index")) == 40


def test_compact_with_a_refused_kind_fails(cli, encoders, write_corpus, refusing):
    cli("index", "build", write_corpus(40))
    result = cli("index", "compact", "corpus.index", "--kind", "PQ4x4")
    assert result.exit_code == 1
    assert "kind PQ4x4 is refused" in result.stderr
    assert Index.open("corpus.index").settings["kind"] == "auto"


def test_compact_of_an_index_whose_kind_was_refused_says_so(cli, encoders, write_corpus, refusing):
    cli("index", "build", write_corpus(40), "--kind", "PQ4x4")
    result = cli("index", "compact", "corpus.index")
    assert result.exit_code == 0
    assert "kind flat: kind PQ4x4 is refused (recall 0.41" in result.stderr


def test_a_real_refusal_has_the_measured_recall(cli, write_corpus):
    np.save("x.npy", np.random.default_rng(0).standard_normal((2500, 32)).astype(np.float32))
    result = cli("index", "import", "x.npy", write_corpus(2500), "-o", "x.index", "--kind", "PQ1x4")
    assert result.exit_code == 0
    warning, _unknown_encoder = warnings_in(result)
    assert re.search(r"kind PQ1x4 is refused \(recall 0\.\d+ where 0\.95 is wanted\): the 2,500 documents", warning)


def test_compact_says_why_a_tiny_index_stays_flat(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(8))
    result = cli("index", "compact", "corpus.index", "--kind", "hnsw")
    assert result.exit_code == 0
    assert "kind flat: 8 vectors are too few for hnsw (from 2,049); " in result.stderr


def test_compact_tells_the_size_that_the_files_have(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(400))
    cli("index", "delete", "corpus.index", "--where", "year >= 2010", "--yes")
    result = cli("index", "compact", "corpus.index")
    before, after = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:bytes|after)", result.stderr))
    size = sum(path.stat().st_size for path in Path("corpus.index").rglob("*") if path.is_file())
    assert after == size < before


def test_info_rounds_what_was_measured_for_people_only(cli, encoders, write_corpus, small_segments, monkeypatch):
    cli("index", "build", write_corpus(60), "--kind", "sq8")
    measured = {"recall": 0.9950000047683716, "queries_per_second": 103599.67435654749}
    info = Index.info
    monkeypatch.setattr(Index, "info", lambda index: replace(info(index), **measured))
    shown = cli("index", "info").stdout
    assert "0.995\n" in shown
    assert "103,600\n" in shown
    facts = json.loads(cli("index", "info", "--json").stdout)
    assert (facts["recall"], facts["queries_per_second"]) == tuple(measured.values())


def test_verify_lists_everything_of_an_index_that_cannot_be_opened(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(8))
    for name in ("vectors.f16", "ids.i64"):
        next(Path("corpus.index").rglob(name)).unlink()
    result = cli("index", "verify", "--json")
    assert result.exit_code == 1
    damaged = json.loads(result.stdout)["damaged"]
    assert {Path(entry["file"]).name for entry in damaged} == {"vectors.f16", "ids.i64"}
    assert len(cli("index", "verify").stdout.splitlines()) == 2


def test_words_are_searched_while_the_vectors_are_missing(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(8))
    next(Path("corpus.index").rglob("vectors.f16")).unlink()
    result = cli("search", "hydrogen", "--mode", "lexical")
    assert result.exit_code == 0
    assert "Stars" in result.stdout
