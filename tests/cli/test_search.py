"""``llm2comp search`` with a stand-in encoder."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import pytest
import pytrec_eval

QUERIES = {"q1": "how do cells divide", "q2": "birth of stars", "q3": "why does bread rise"}


@pytest.fixture
def queries(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in QUERIES.items()))
    return path


@pytest.mark.parametrize(
    ("mode", "fusion"),
    [("dense", "weighted"), ("lexical", "weighted"), ("hybrid", "weighted"), ("hybrid", "minmax"), ("hybrid", "rrf")],
)
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


def test_queries_may_come_from_an_encoder_that_was_aligned_to_the_one_that_built_the_index(cli, built, encoders):
    small = encoders["small"] = type(encoders["default"])()
    small.fingerprint, small.space = "small", {"name": "hash", "fingerprint": encoders["default"].fingerprint}
    found = cli("search", "cells divide", "--mode", "dense", "-k", 1, "--query-encoder", "small", "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["hits"][0]["id"].startswith("cells")
    assert encoders.loaded == ["small"]
    refused = cli("search", "cells divide", "--query-encoder", "other")
    assert refused.exit_code == 1
    assert "cannot be compared; search with the first, or with one that was aligned to it" in refused.stderr


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
        (["   "], "QUERY is empty"),
        (["q", "-k", "0"], "-k must be at least 1"),
        (["q", "-k", "-3"], "-k must be at least 1"),
        (["q", "--mode", "sparse"], "dense, lexical, hybrid"),
        (["q", "--fusion", "sum"], "--fusion must be one of weighted, minmax, rrf, learned, not 'sum'"),
        (["q", "--queries", "x.jsonl"], "not both"),
        (["q", "--format", "trec"], "--queries"),
        (["q", "-o", "out"], "--queries"),
        (["--queries", "x.jsonl", "--format", "csv"], "trec, json"),
        ([], "no query"),
        (["q", "--where", "year >="], "year >="),
        (["q", "--index", "nothing.index"], "nothing.index"),
        (["\udcff\udcfe doc"], "QUERY is not valid UTF-8"),
        (["q", "--where", "year = '\udcff'"], "--where is not valid UTF-8"),
        (["q", "--rerank-depth", "20"], "--rerank-depth: nothing is scored again without --rerank"),
        (
            ["q", "--mode", "dense", "--alpha", "0.3"],
            "--alpha has no effect: only a hybrid search weighs meaning and words",
        ),
        (["q", "--mode", "lexical", "--encoder", "nonsense"], "--encoder: lexical search loads no model"),
        (["q", "--mode", "lexical", "--query-encoder", "no"], "--query-encoder: lexical search loads no model"),
        (
            ["q", "--mode", "lexical", "--rerank", "words", "--encoder", "nonsense"],
            "--encoder: neither lexical search nor words asks it",
        ),
        (
            ["q", "--mode", "lexical", "--rerank", "memory", "--query-encoder", "no"],
            "--query-encoder: lexical search encodes no query",
        ),
        (["--queries", "q.jsonl", "--show", "year"], "--show: a run has no fields"),
        (["--queries", "q.jsonl", "--format", "trec", "--json"], "--json: --format says it already"),
        (["--queries", "x.jsonl", "-o", "nowhere/x.trec"], "--output nowhere/x.trec: there is no folder nowhere"),
        (["--queries", "x.jsonl", "-o", "corpus.index"], "--output corpus.index is a folder"),
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


def test_a_condition_on_a_field_that_no_document_has_is_told(cli, built):
    result = cli("search", "cells", "--mode", "lexical", "--where", "Yaer != 2020 and year > 0")
    assert result.exit_code == 0
    assert result.stderr.count("Warning") == 1
    assert "'Yaer', did you mean 'year'? (there are: _id, title, year)" in result.stderr


def test_more_hits_than_documents_is_told(cli, built):
    told = "8 documents in the index; -k 100 gives all of them\n"
    assert cli("search", "cells", "-k", "100").stderr == told
    assert cli("search", "cells", "-k", "8").stderr == ""
    assert "-k 100 gives all that match" in cli("search", "cells", "-k", "100", "--mode", "lexical").stderr


def test_a_device_for_a_lexical_search_makes_no_difference_and_that_is_told(cli, built):
    result = cli("search", "cells", "--mode", "lexical", "--device", "cuda")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert "--device cuda" in result.stderr


def test_documents_cannot_command_the_terminal(cli, encoders, tmp_path, monkeypatch):
    record = {"_id": "a\x1bb", "title": "T\x9bitle", "text": "clear\x1b[2J the\x07 screen"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(record) + "\n")
    cli("index", "build", "odd.jsonl")
    result = cli("search", "clear screen", "--mode", "lexical")
    assert "Title" in result.stdout
    assert "ab" in result.stdout
    assert "**clear**[2J the **screen**" in result.stdout
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    styled = cli("search", "clear screen", "--mode", "lexical", env={"NO_COLOR": "1", "TERM": "dumb"})
    assert "clear[2J the screen" in styled.stdout
    assert set(styled.stdout) & {"\x07", "\x9b"} == set()


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


@pytest.fixture
def halves(cli, built, tmp_path):
    """The same documents in two indexes, beside the one that has all."""
    lines = (tmp_path / "corpus.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("a", lines[:3]), ("b", lines[3:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
        assert cli("index", "build", f"{name}.jsonl", "--memory").exit_code == 0
    return ("--index", "a.index", "--index", "b.index")


@pytest.mark.parametrize(
    "how", [(), ("--mode", "dense"), ("--mode", "lexical"), ("--rerank", "memory"), ("--where", "year >= 2003")]
)
def test_two_indexes_are_searched_as_one(cli, built, halves, how):
    call = ("search", "stars and cells", "--json", "-k", "8", *how)
    both, one = (json.loads(cli(*call, *index).stdout)["hits"] for index in (halves, ("--index", "corpus.index")))
    assert {hit["id"] for hit in both} == {hit["id"] for hit in one}
    assert both[0]["id"] == one[0]["id"]  # equal scores of words may differ in their last digit
    assert [hit["score"] for hit in both] == pytest.approx([hit["score"] for hit in one], abs=1e-5)
    assert len(both) > 2


def test_documents_like_one_are_looked_for_in_both_indexes(cli, built, halves):
    both, one = (
        json.loads(cli("search", "--like", "cells-0", "-k", "7", "--json", *index).stdout)["hits"]
        for index in (halves, ("--index", "corpus.index"))
    )
    assert {hit["id"] for hit in both} == {hit["id"] for hit in one}
    assert [hit["score"] for hit in both] == pytest.approx([hit["score"] for hit in one], abs=1e-5)


def test_an_index_that_is_named_twice_is_not_told_to_lose_its_documents(cli, built):
    for other in ("corpus.index", "./corpus.index/"):
        result = cli("search", "stars", "--index", "corpus.index", "--index", other)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.search(r"^Error: --index names .*corpus\.index twice$", result.stderr.strip())


def test_indexes_that_share_a_document_or_do_not_fit_are_refused(cli, built, halves):
    result = cli("search", "stars", "--index", "corpus.index", "--index", "b.index")
    assert result.exit_code == 2
    assert re.search(r"--index names .*corpus.index and .*b.index, and both hold the id '.+'; search", result.stderr)
    assert cli("index", "build", "a.jsonl", "-o", "german.index", "--memory", "--language", "german").exit_code == 0
    result = cli("search", "stars", "--index", "german.index", "--index", "b.index")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be searched together, its language is 'english'" in result.stderr
    result = cli("search", "stars", "--index", "a.index", "--index", "none.index")
    assert result.exit_code == 2
    assert "no index at none.index" in result.stderr


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("how stars burn\nwhat floats, and why\n", ["1", "2"]),
        ("stars", ["1"]),
        ('{"_id": "a", "text": "stars"}\n{"_id": "b", "text": "ships"}\n', ["a", "b"]),
        ("qid\tquery\n7\tstars\n8\tships\n", ["7", "8"]),
    ],
)
def test_queries_from_standard_input(cli, built, typed, ids):
    result = cli("search", "--queries", "-", "-k", "1", "--format", "json", input=typed)
    assert [json.loads(line)["query_id"] for line in result.stdout.splitlines()] == ids
    broken = cli("search", "--queries", "-", input="stars\n\nships\n")
    assert broken.exit_code == 1
    assert "<stdin>:2: the query is empty" in broken.stderr


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", '{"_id": "a", "text": "stars"}\n{"_id": "b", "text": " "}\n', "q.jsonl:2: the query is empty"),
        (
            "q.jsonl",
            '{"qid": "a", "query": "stars"}\n{"qid": "a", "query": "stars"}\n',
            "q.jsonl:2: the query 'a' is there already, at q.jsonl:1",
        ),
        ("q.jsonl", '{"_id": 7, "words": "stars"}\n', "q.jsonl:1: no text: looked for query or text or"),
        ("q.jsonl", '{"_id": "a", "text": "stars"\n', "q.jsonl:1: not JSON"),
        ("q.jsonl", '{"_id": "a", "text": 3}\n', "q.jsonl:1: the field 'text' is a number, not a string"),
        ("q.jsonl", "", "q.jsonl: no query in it"),
        ("q.txt", "stars\n\nbread\n", "q.txt:2: the query is empty"),
        ("folder/notes.txt", "stars\n", "folder: a folder without queries.jsonl"),
    ],
)
def test_a_broken_file_of_queries_is_one_line_that_names_no_option_that_is_not_there(
    cli, built, encoders, tmp_path, name, content, message
):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    result = cli("search", "--queries", name.split("/")[0])
    assert (result.exit_code, result.stdout, encoders.loaded) == (1, "", [])
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "--" not in result.stderr


def run_ids(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["query_id"] for line in result.stdout.splitlines()]


def test_queries_under_the_names_that_other_tools_give_them(cli, built, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"qid": 5, "query": "stars", "text": "a passage"}\n{"qid": 6, "query": "gas"}\n')
    (tmp_path / "q.tsv").write_text("qid\tquery\nx\tstars\ny\tgas\n")
    assert run_ids(cli("search", "--queries", "q.jsonl", "--format", "json")) == ["5", "6"]
    assert run_ids(cli("search", "--queries", "q.tsv", "--format", "json")) == ["x", "y"]


def test_a_text_file_is_a_query_a_line(cli, built, tmp_path):
    (tmp_path / "q.txt").write_text("how do cells divide\nbirth of stars\nbirth of stars\n\n")
    assert run_ids(cli("search", "--queries", "q.txt", "--format", "json")) == ["1", "2", "3"]


def test_of_a_beir_folder_the_queries_are_taken(cli, built, queries, tmp_path):
    folder = tmp_path / "beir"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "no query"}\n')
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(queries.read_bytes()))
    assert run_ids(cli("search", "--queries", "beir", "--format", "json")) == list(QUERIES)


def test_reranking_by_memory(cli, built):
    plain = json.loads(cli("search", "cells divide", "--json", "-k", "3").stdout)["hits"]
    reranked = json.loads(cli("search", "cells divide", "--json", "-k", "3", "--rerank", "memory").stdout)["hits"]
    assert reranked[0]["id"].startswith("cells")
    assert [hit["score"] for hit in reranked] != [hit["score"] for hit in plain]
    assert all(-1 <= hit["score"] <= 1 for hit in reranked)


def test_reranking_by_memory_that_is_not_stored_works_and_says_what_would_be_quicker(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(4))
    result = cli("search", "cells", "--rerank", "memory", "-k", "1")
    assert result.exit_code == 0
    assert "Cells" in result.stdout
    assert "Warning: corpus.index stores no memory vectors" in result.stderr
    assert "--memory" in result.stderr


def test_a_reranker_that_is_not_there_is_one_line_before_the_encoder_is_loaded(cli, built, encoders):
    result = cli("search", "cells", "--rerank", "./no-such-model")
    assert (result.exit_code, encoders.loaded) == (1, [])
    assert "cannot load the cross-encoder './no-such-model': no such directory" in result.stderr
    assert result.stderr.count("\n") == 1


def test_timings_list_the_parts_on_stderr(cli, built):
    result = cli("search", "cells", "--timings", "--json")
    json.loads(result.stdout)
    for part in ("open index", "load encoder", "encode query", "dense search", "lexical search", "from process start"):
        assert part in result.stderr


def test_what_stdout_cannot_encode_is_escaped(process, cli, encoders, tmp_path):
    (tmp_path / "odd.jsonl").write_text(json.dumps({"_id": "a", "text": "stars \u2605 é"}) + "\n")
    cli("index", "build", "odd.jsonl")
    search = ("search", "stars", "--mode", "lexical")
    code, stdout, stderr = process(*search, PYTHONIOENCODING="ascii").finish()
    assert (code, stderr) == (0, "")
    assert "\\u2605 \\xe9" in stdout
    code, stdout, stderr = process(*search, "--json", PYTHONIOENCODING="ascii").finish()
    assert json.loads(stdout)["hits"][0]["text"] == "stars \u2605 é"
    (tmp_path / "q.jsonl").write_text('{"_id": "\u2605", "text": "stars"}\n')
    run = ("search", "--queries", "q.jsonl", "--mode", "lexical", "--format", "json")
    code, stdout, stderr = process(*run, PYTHONIOENCODING="ascii").finish()
    assert json.loads(stdout)["query_id"] == "\u2605"


def test_no_prompt_in_a_pipe(cli, built):
    assert not sys.stdin.isatty()
    result = cli("search", input="cells\n")
    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr


def test_operators_are_understood_told_and_turned_off(cli, built):
    done = cli("search", "cells -divide", "-k", "8", "--mode", "lexical")
    assert "understood as operators: -divide (--no-operators takes them as text)" in done.stderr
    assert "**divide**" not in done.stdout
    plain = cli("search", "cells -divide", "-k", "8", "--mode", "lexical", "--no-operators")
    assert "operators" not in plain.stderr
    assert "**divide**" in plain.stdout


def test_fields_are_shown_and_an_untitled_hit_has_its_id_once(cli, encoders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"_id": "a1", "text": "Cells divide.", "year": 1990, "by": {"name": "Ada"}, "tags": ["x", "y"]}]
    Path("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("index", "build", "c.jsonl").exit_code == 0
    fields = ("--show", "year", "--show", "by.name", "--show", "tags", "--show", "none")
    lines = cli("search", "cells", *fields).stdout.splitlines()
    assert lines[0] == " 1. a1"
    assert "a1" not in lines[1]
    assert [line.strip() for line in lines[2:5]] == ["year: 1990", "by.name: Ada", "tags: x, y"]


@pytest.mark.parametrize("asked", [["cells"], ["--like", "cells-0"]])
@pytest.mark.parametrize("given", [["--where", "yaer > 3"], ["--show", "yaer"]])
def test_a_field_that_no_document_has_is_named(cli, built, asked, given):
    assert f"Warning: {given[0]}: no document has a field 'yaer'" in cli("search", *asked, *given).stderr


def test_the_nearest_documents_of_a_document(cli, built, encoders):
    done = cli("search", "--like", "cells-0", "-k", "3", "--json")
    answer = json.loads(done.stdout)
    assert answer["like"] == "cells-0"
    assert len(answer["hits"]) == 3
    assert "cells-0" not in [hit["id"] for hit in answer["hits"]]
    assert encoders.loaded == []
    assert "'none' is not the id" in cli("search", "--like", "none").stderr
    assert "--like compares the vectors" in cli("search", "stars", "--like", "cells-0").stderr
