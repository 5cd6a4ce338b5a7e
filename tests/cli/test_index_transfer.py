"""``llm2comp index export`` and ``import``: there and back again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from llm2comp_indexes import Index


@pytest.fixture
def built(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    assert cli("index", "build", corpus, "--chunk", 16).exit_code == 0
    return corpus.with_suffix(".index")


def contents(path):
    index = Index.open(path)
    return [
        (document.id, document.text, document.metadata, document.spans) for document in index.get(list(index.ids()))
    ]


def hits(cli, path):
    answer = cli("search", "stars burn hydrogen", "--index", path, "--mode", "dense", "--json")
    return [(hit["id"], round(hit["score"], 3)) for hit in json.loads(answer.stdout)["hits"]]


def test_parquet_brings_everything_back(cli, built):
    assert cli("index", "export", built, "all.parquet").exit_code == 0
    assert "vector" in pq.read_schema("all.parquet").names
    result = cli("index", "import", "all.parquet", "-o", "back.index", "--encoder", "default")
    assert result.exit_code == 0
    assert "back.index: 8 documents" in result.stderr
    assert contents("back.index") == contents(built)
    assert hits(cli, "back.index") == hits(cli, built)
    assert cli("index", "verify", "back.index").exit_code == 0


def test_a_matrix_with_its_corpus_is_an_index(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    cli("index", "build", corpus)
    cli("index", "export", "corpus.index", "vectors.npy")
    ids = [json.loads(line)["id"] for line in Path("vectors.ids.jsonl").read_text().splitlines()]
    by_id = {json.loads(line)["_id"]: line for line in corpus.read_text().splitlines()}
    Path("ordered.jsonl").write_text("".join(by_id[name] + "\n" for name in ids))
    result = cli("index", "import", "vectors.npy", "ordered.jsonl", "-o", "back.index", "--encoder", "default")
    assert result.exit_code == 0
    assert hits(cli, "back.index") == hits(cli, "corpus.index")
    assert "8 unchanged" in cli("index", "add", "back.index", corpus).stderr


def test_vectors_of_an_unknown_encoder_are_searched_by_words_only(cli, built, encoders):
    cli("index", "export", built, "all.parquet")
    assert cli("index", "import", "all.parquet", "-o", "back.index").exit_code == 0
    assert "Stars" in cli("search", "stars", "--index", "back.index", "--mode", "lexical").stdout
    for arguments in ([], ["--encoder", "default"]):
        refused = cli("search", "stars", "--index", "back.index", *arguments)
        assert refused.exit_code == 1
        assert "does not say which encoder" in refused.stderr


@pytest.mark.parametrize("rows", [7, 9])
def test_too_few_or_too_many_vectors_leave_nothing(cli, encoders, write_corpus, rows):
    np.save("vectors.npy", np.ones((rows, 5), np.float32))
    result = cli("index", "import", "vectors.npy", write_corpus(8), "-o", "back.index")
    assert result.exit_code == 1
    assert f"vectors: {rows} rows" in result.stderr
    assert not Path("back.index").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vectors.npy"], 2, "needs the CORPUS"),
        (["all.parquet", "corpus.jsonl"], 2, "brings its own"),
        (["vectors.txt"], 2, ".parquet or .npy"),
        (["nothing.parquet"], 1, "nothing.parquet"),
        (["vectors.npy", "corpus.jsonl", "--encoder", "default"], 2, "5 dimensions"),
    ],
)
def test_wrong_imports_are_one_line(cli, encoders, write_corpus, arguments, code, message):
    write_corpus(8)
    np.save("vectors.npy", np.ones((8, 5), np.float32))
    result = cli("index", "import", *arguments, "-o", "back.index")
    assert result.exit_code == code
    assert message in result.stderr
    assert not Path("back.index").exists()


def test_an_import_never_touches_an_index_that_is_there(cli, built):
    cli("index", "export", built, "all.parquet")
    before = contents(built)
    result = cli("index", "import", "all.parquet", "-o", built)
    assert result.exit_code == 1
    assert "already exists" in result.stderr
    assert contents(built) == before


def test_an_export_to_something_else_is_refused(cli, built):
    result = cli("index", "export", built, "vectors.csv")
    assert result.exit_code == 1
    assert ".parquet" in result.stderr


def test_faiss_reads_the_export(cli, built):
    import faiss

    assert cli("index", "export", built, "plain.faiss").exit_code == 0
    assert faiss.read_index("plain.faiss").ntotal == Index.open(built).info().vectors
