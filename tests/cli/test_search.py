"""``llm2comp search`` with a stand-in encoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import pytrec_eval

QUERIES = {"q1": "how do cells divide", "q2": "birth of stars", "q3": "why does bread rise"}


@pytest.fixture
def built(cli, encoders, write_corpus):
    """An index of eight documents, ``corpus.index`` in the working directory."""
    corpus = write_corpus(8)
    assert cli("index", "build", corpus, "--memory").exit_code == 0
    encoders.loaded.clear()
    return corpus.with_suffix(".index")


@pytest.fixture
def queries(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in QUERIES.items()))
    return path


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("fusion", ["minmax", "rrf"])
def test_the_obvious_document_comes_first(cli, built, mode, fusion):
    for query, topic in (
        ("cells divide", "cells"),
        ("stars burn hydrogen", "stars"),
        ("yeast makes bread rise", "bread"),
    ):
        hits = json.loads(cli("search", query, "--mode", mode, "--fusion", fusion, "--json").stdout)["hits"]
        assert hits[0]["id"].startswith(topic)


def test_hits_fit_80_columns_and_show_rank_title_score_id_and_marks(cli, built):
    result = cli("search", "How do cells divide?", "-k", "2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == " 1. Cells"
    assert lines[1].split()[1] == "cells-0"
    assert "**Cells** **divide** by mitosis." in result.stdout
    assert " 2. " in result.stdout
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in result.stdout


def test_json_holds_what_is_shown_and_more(cli, built):
    answer = json.loads(cli("search", "cells divide", "-k", "3", "--json").stdout)
    assert (answer["query"], answer["mode"]) == ("cells divide", "hybrid")
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    first = answer["hits"][0]
    assert first["metadata"] == {"year": 2000}
    assert [first["snippet"][start:end] for start, end in first["marks"]] == ["Cells", "divide", "cell", "divides"]


def test_k_beyond_the_corpus_gives_all_of_it(cli, built):
    assert len(json.loads(cli("search", "gas", "-k", "500", "--mode", "dense", "--json").stdout)["hits"]) == 8


def test_no_hits_is_said_on_stderr(cli, built):
    result = cli("search", "xylophone", "--mode", "lexical")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No hits.\n")


def test_lexical_search_loads_no_encoder(cli, built, encoders):
    assert cli("search", "cells", "--mode", "lexical").exit_code == 0
    assert encoders.loaded == []


def test_the_encoder_is_the_one_that_built_the_index(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(8), "--encoder", "other")
    encoders.loaded.clear()
    assert cli("search", "cells").exit_code == 0
    assert encoders.loaded == ["other"]


def test_another_encoder_is_refused_by_name(cli, built):
    result = cli("search", "cells", "--encoder", "other")
    assert result.exit_code == 1
    assert "hashother" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["   "], "query is empty"),
        (["q", "-k", "0"], "-k must be at least 1"),
        (["q", "-k", "-3"], "-k must be at least 1"),
        (["q", "--mode", "sparse"], "dense, lexical, hybrid"),
        (["q", "--fusion", "sum"], "minmax, rrf"),
        (["q", "--queries", "x.jsonl"], "not both"),
        (["q", "--format", "trec"], "--queries"),
        (["q", "-o", "out"], "--queries"),
        (["--queries", "x.jsonl", "--format", "csv"], "trec, json"),
        ([], "no query"),
        (["q", "--where", "year >="], "year >="),
        (["q", "--index", "nothing.index"], "nothing.index"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_with_2_before_a_model_is_loaded(cli, built, encoders, arguments, message):
    result = cli("search", *arguments)
    assert encoders.loaded == []
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_index_and_several_indexes(cli, encoders, write_corpus, monkeypatch):
    assert "no index here" in cli("search", "q").stderr
    for name in ("a.jsonl", "b.jsonl"):
        cli("index", "build", write_corpus(4, name))
    several = cli("search", "q")
    assert several.exit_code == 2
    assert "a.index, b.index" in several.stderr
    monkeypatch.setenv("LLM2COMP_INDEX", "b.index")
    assert cli("search", "cells").exit_code == 0


def test_conditions_filter_hits(cli, built):
    answer = json.loads(cli("search", "cells divide", "--where", "year > 2003", "-k", "8", "--json").stdout)
    assert {hit["metadata"]["year"] for hit in answer["hits"]} == {2004, 2005, 2006, 2007}


def test_a_run_is_read_by_an_outside_tool(cli, built, queries):
    result = cli("search", "--queries", queries, "-k", "5", "--format", "trec", "-o", "run.trec")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "3 queries answered" in result.stderr
    with Path("run.trec").open() as file:
        run = pytrec_eval.parse_run(file)
    assert {name: len(ranking) for name, ranking in run.items()} == dict.fromkeys(QUERIES, 5)
    judged = {
        "q1": {"cells-0": 1, "cells-4": 1},
        "q2": {"stars-1": 1, "stars-5": 1},
        "q3": {"bread-2": 1, "bread-6": 1},
    }
    measured = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(run)
    assert all(values["recip_rank"] == 1.0 for values in measured.values())


def test_a_run_equals_single_searches(cli, built, queries):
    lines = cli("search", "--queries", queries, "-k", "3", "--format", "json").stdout.splitlines()
    for line, (name, text) in zip(lines, QUERIES.items(), strict=True):
        batch = json.loads(line)
        single = json.loads(cli("search", text, "-k", "3", "--json").stdout)["hits"]
        assert batch["query_id"] == name
        assert [hit["id"] for hit in batch["hits"]] == [hit["id"] for hit in single]
        assert [hit["score"] for hit in batch["hits"]] == pytest.approx([hit["score"] for hit in single], abs=1e-5)


def test_an_unfinished_run_leaves_no_file(cli, built, tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"_id": "fine", "text": "stars"}\n{"_id": "white space", "text": "stars"}\n')
    result = cli("search", "--queries", path, "-o", "run.trec")
    assert result.exit_code == 2
    assert "'white space'" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir() if "run" in entry.name] == []


def test_a_missing_file_of_queries_is_told_before_a_model_is_loaded(cli, built, encoders):
    result = cli("search", "--queries", "nothing.jsonl")
    assert (result.exit_code, encoders.loaded) == (1, [])
    assert "nothing.jsonl" in result.stderr


def test_reranking_by_memory(cli, built):
    plain = json.loads(cli("search", "cells divide", "--json", "-k", "3").stdout)["hits"]
    reranked = json.loads(cli("search", "cells divide", "--json", "-k", "3", "--rerank", "memory").stdout)["hits"]
    assert reranked[0]["id"].startswith("cells")
    assert [hit["score"] for hit in reranked] != [hit["score"] for hit in plain]
    assert all(-1 <= hit["score"] <= 1 for hit in reranked)


def test_reranking_by_memory_needs_stored_memory(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(4))
    encoders.loaded.clear()
    result = cli("search", "cells", "--rerank", "memory")
    assert (result.exit_code, encoders.loaded) == (2, [])
    assert "--memory" in result.stderr


def test_a_reranker_that_is_not_there_is_one_line(cli, built, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = cli("search", "cells", "--mode", "lexical", "--rerank", "./no-such-model")
    assert result.exit_code == 1
    assert "./no-such-model" in result.stderr


def test_timings_list_the_parts_on_stderr(cli, built):
    result = cli("search", "cells", "--timings", "--json")
    json.loads(result.stdout)
    for part in ("open index", "load encoder", "encode query", "dense search", "lexical search", "from process start"):
        assert part in result.stderr


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Makes the command believe that it talks to a person who types these lines."""

    def type_lines(*lines):
        waiting = iter(lines)

        def read(prompt):
            line = next(waiting, None)
            if line is None:
                raise EOFError
            return line

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr("llm2comp_apps.cli.search._is_terminal", lambda stream: True)

    return type_lines


@pytest.mark.parametrize("lines", [("cells divide", "stars burn", ""), ("cells divide", "stars burn")])
def test_the_prompt_loads_the_model_once_and_ends_with_an_empty_line_or_the_end_of_input(
    cli, built, encoders, on_a_terminal, lines
):
    on_a_terminal(*lines)
    result = cli("search", "-k", "1")
    assert result.exit_code == 0
    assert result.stdout.count(" 1. ") == 2
    assert encoders.loaded == ["default"]


def test_no_prompt_in_a_pipe(cli, built):
    assert not sys.stdin.isatty()
    result = cli("search", input="cells\n")
    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr
