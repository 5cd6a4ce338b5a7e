"""``llm2comp rerank``: candidates from a file, no index."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llm2comp_apps import Collection


def test_the_best_candidate_comes_first(cli, encoders, write_corpus):
    result = cli("rerank", "stars burn hydrogen", write_corpus(8), "--json")
    answer = json.loads(result.stdout)
    assert (answer["query"], answer["model"]) == ("stars burn hydrogen", "memory")
    assert answer["hits"][0]["id"].startswith("stars")
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 9))
    assert encoders.loaded == ["default"]


def test_k_and_standard_input(cli, encoders):
    lines = "".join(json.dumps({"_id": name, "text": f"about {name}"}) + "\n" for name in ("cells", "stars", "bread"))
    result = cli("rerank", "stars", "-", "-k", "1", input=lines)
    assert result.exit_code == 0
    assert "about **stars**" in result.stdout
    assert " 2. " not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["", "corpus.jsonl"], 2, "QUERY is empty"),
        (["q", "corpus.jsonl", "-k", "-1"], 2, "-k must be at least 1, not -1"),
        (["q", "corpus.jsonl", "-k", "0"], 2, "-k must be at least 1, not 0"),
        (["q", "nothing.jsonl"], 1, "nothing.jsonl"),
        (["q", "corpus.jsonl", "--model", "./nothing"], 1, "./nothing"),
        (
            ["q", "corpus.jsonl", "--model", "./own", "--encoder", "no"],
            2,
            "--encoder makes no difference: the reranker",
        ),
    ],
)
def test_wrong_calls_are_one_line(cli, encoders, write_corpus, monkeypatch, arguments, code, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_corpus(4)
    result = cli("rerank", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_without_sentence_transformers_the_model_that_was_given_is_named(cli, encoders, write_corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    corpus = write_corpus(4)
    line = cli("rerank", "q", corpus, "--model", "some/model").stderr.splitlines()[-1]
    assert line.startswith("Error: the cross-encoder 'some/model' needs sentence-transformers")
    assert line.endswith("(without it: words, tokens, memory, likelihood, upr, or a reranker's folder)")
    cli("index", "build", corpus)
    for missing in ("./none", "/no/where"):
        line = cli("rerank", "q", corpus, "--model", missing).stderr.splitlines()[-1]
        assert line == f"Error: cannot load the cross-encoder {missing!r}: no such directory"
        line = cli("search", "q", "--mode", "lexical", "--rerank", missing).stderr.splitlines()[-1]
        assert line.endswith(f"{missing!r}: no such directory")
    line = cli("search", "q", "--mode", "lexical", "--rerank", "some/model").stderr
    assert line.startswith("Error: the cross-encoder 'some/model' needs sentence-transformers")


def test_an_encoder_without_memory_says_what_to_take(cli, encoders, write_corpus):
    class Plain:
        name = "plain"

    encoders["plain"] = Plain()
    result = cli("rerank", "q", write_corpus(4), "--encoder", "plain")
    assert result.exit_code == 2
    assert "plain has no memory vectors" in result.stderr


def test_an_index_learns_to_rank_and_searches_by_what_it_learned(cli, encoders):
    lines = [
        {
            "_id": f"d{i}-{n}",
            "text": f"red{i} blue{i} {'filler ' * 12}" if n == 3 else f"red{i} or blue{i} or " * (n + 2),
        }
        for i in range(8)
        for n in range(5)
    ]
    Path("corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    queries = [{"_id": f"q{i}-{n}", "text": f"red{i} blue{i}{' filler' * n}"} for i in range(8) for n in range(3)]
    Path("queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    Path("qrels.tsv").write_text("".join(f"q{i}-{n} 0 d{i}-3 1\n" for i in range(8) for n in range(3)))
    cli("index", "build", "corpus.jsonl", "-o", "c.index")
    tuned = cli("index", "tune", "c.index", "queries.jsonl", "qrels.tsv", "--rerank", "ltr")
    assert tuned.exit_code == 0, tuned.stderr
    assert tuned.stdout.splitlines()[-1] == "kept, learned from all of them: a search takes it with --rerank ltr"
    found = json.loads(cli("search", "--index", "c.index", "red5 blue5", "--rerank", "ltr", "--json").stdout)
    assert found["hits"][0]["id"] == "d5-3"
    assert "its best hits, as this index has learned it)" in cli("index", "info", "c.index").stdout
    for wrong, said in (
        (
            ("search", "--index", "c.index", "red5", "--rerank", "ltr", "--mode", "lexical"),
            "--rerank cannot be ltr here",
        ),
        (("rerank", "red5", "corpus.jsonl", "--model", "ltr"), "--model cannot be ltr here"),
        (("search", "--index", "c.index", "red5", "--fusion", "learned"), "what it has learned for ltr counts without"),
    ):
        done = cli(*wrong)
        assert done.exit_code == 2
        assert said in done.stderr


def test_judgements_of_other_documents_are_named_before_anything_is_searched(cli, encoders, write_corpus):
    cli("index", "build", write_corpus(6), "-o", "c.index")
    encoders.loaded.clear()
    Path("queries.txt").write_text("".join(f"number {number}\n" for number in range(24)))
    Path("qrels.tsv").write_text("".join(f"{number} 0 x{number} 1\n" for number in range(1, 25)))
    for rerank in ([], ["--rerank", "ltr"]):
        refused = cli("index", "tune", "c.index", "queries.txt", "qrels.tsv", *rerank)
        assert refused.exit_code == 2
        assert refused.stderr == (
            "Error: QRELS names no document of c.index, but 'x1' and others: do the ids of documents match?\n"
        )
    assert not encoders.loaded
    (known, *_) = Collection.open("c.index").index.ids()
    Path("qrels.tsv").write_text("".join(f"{n} 0 x{n} 1\n{n} 0 {known} 1\n" for n in range(1, 25)))
    warned = cli("index", "tune", "c.index", "queries.txt", "qrels.tsv")
    assert warned.exit_code == 0, warned.stderr
    line = "Warning: QRELS names documents that c.index lacks (24, such as 'x1'); they count as not found"
    assert line in " ".join(warned.stderr.split())
    Path("qrels.tsv").write_text("".join(f"q{n} 0 {known} 1\n" for n in range(1, 25)))
    other = cli("index", "tune", "c.index", "queries.txt", "qrels.tsv").stderr
    assert "QUERIES has 0 with a known answer (they are known of others, such as 'q1'); at least 20" in other
