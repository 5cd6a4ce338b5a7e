"""``llm2comp index export`` and ``import``: there and back again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
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


@pytest.mark.parametrize(("option", "values"), [("--json", ()), ("--name", ("papers",))])
def test_what_belongs_to_an_engine_is_refused_for_a_file(cli, built, option, values):
    result = cli("index", "export", built, "all.parquet", option, *values)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {option}: belongs to --to ENGINE")
    assert not Path("all.parquet").exists()


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


def turned(corpus):
    """The same corpus, the last document first."""
    target = corpus.with_name("turned.jsonl")
    target.write_text("".join(reversed(corpus.read_text().splitlines(keepends=True))))
    return target


def vectors_by_id(path):
    index = Index.open(path)
    return {name: index.vectors([name]) for name in index.ids()}


@pytest.fixture
def exported(cli, encoders, write_corpus):
    """The corpus of ``corpus.index``, whose vectors are in ``x.npy`` with their ids beside it."""
    corpus = write_corpus(8)
    cli("index", "build", corpus)
    cli("index", "export", "corpus.index", "x.npy")
    return corpus


def same_vectors(path, expected="corpus.index"):
    found, expected = vectors_by_id(path), vectors_by_id(expected)
    assert found.keys() == expected.keys()
    return all(np.allclose(found[name], expected[name], atol=1e-3) for name in found)


@pytest.mark.parametrize("encoder", [[], ["--encoder", "default"]])
def test_an_exported_matrix_finds_its_documents_in_any_order(cli, exported, encoder):
    for number, corpus in enumerate((exported, turned(exported))):
        assert cli("index", "import", "x.npy", corpus, "-o", f"{number}.index", *encoder).exit_code == 0
        assert same_vectors(f"{number}.index")


def test_an_encoded_matrix_finds_its_documents_in_any_order(cli, exported):
    cli("encode", exported, "-o", "encoded.npy")
    assert Path("encoded.ids.txt").exists()
    result = cli("index", "import", "encoded.npy", turned(exported), "-o", "back.index", "--encoder", "default")
    assert result.exit_code == 0
    assert same_vectors("back.index")
    assert "8 unchanged" in cli("index", "add", "back.index", exported).stderr


def test_more_documents_than_are_taken_at_a_time_find_their_rows(cli, write_corpus, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.imports._BATCH", 30)
    monkeypatch.setattr("llm2comp_apps.retrieval.row_ids._BATCH", 7)
    corpus = write_corpus(100)
    ids = [json.loads(line)["_id"] for line in corpus.read_text().splitlines()]
    vectors = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(1).permutation(100)
    np.save("x.npy", vectors[order])
    Path("x.ids.txt").write_text("".join(ids[place] + "\n" for place in order))
    assert cli("index", "import", "x.npy", corpus, "-o", "x.index").exit_code == 0
    found = vectors_by_id("x.index")
    assert list(found) == ids
    np.testing.assert_allclose(np.concatenate(list(found.values())), vectors, atol=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "stars-1"}', "x.ids.jsonl: the id 'stars-1' has more than one row"),
        ('{"id": "moon"}', "x.ids.jsonl: has no row of the document 'bread-2'"),
        ('{"id": "bread-2"}\n{"id": "moon"}', "x.ids.jsonl: 9 ids for the 8 rows of x.npy"),
        ("{", "is no JSON"),
        ("[3]", "is no record"),
    ],
)
def test_ids_that_do_not_fit_are_one_line(cli, exported, line, message):
    ids = Path("x.ids.jsonl")
    ids.write_text(ids.read_text().replace('{"id": "bread-2"}', line))
    result = cli("index", "import", "x.npy", exported, "-o", "back.index")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: x.ids.jsonl:")
    assert message in result.stderr
    assert not Path("back.index").exists()


def test_a_row_without_a_document_is_refused(cli, exported, write_corpus):
    result = cli("index", "import", "x.npy", write_corpus(7, "fewer.jsonl"), "-o", "back.index")
    assert result.exit_code == 1
    assert "x.ids.jsonl: no document of the corpus has the id 'ships-7'" in result.stderr
    assert not Path("back.index").exists()


def test_chunks_go_by_parquet(cli, built, encoders, write_corpus):
    cli("index", "export", built, "x.npy")
    result = cli("index", "import", "x.npy", write_corpus(8), "-o", "back.index")
    assert result.exit_code == 1
    assert "more than one row; chunks of documents go by .parquet" in result.stderr


def test_two_files_of_ids_are_one_too_many(cli, exported):
    Path("x.ids.txt").write_text("a\n")
    result = cli("index", "import", "x.npy", exported, "-o", "back.index")
    assert result.exit_code == 2
    assert "remove the one" in result.stderr


def test_rows_in_another_order_are_noticed_with_the_encoder(cli, exported, encoders):
    Path("x.ids.jsonl").unlink()
    result = cli("index", "import", "x.npy", turned(exported), "-o", "back.index", "--encoder", "default")
    assert result.exit_code == 1
    assert re.search(r"Error: document '\w+-\d': its vector is not what the encoder hash makes of it", result.stderr)
    assert "another order, encoder or prompt" in result.stderr
    assert not Path("back.index").exists()


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_vectors_of_another_encoder_are_noticed(cli, exported, encoders, suffix):
    cli("index", "export", "corpus.index", f"x{suffix}")
    corpus = [exported] if suffix == ".npy" else []
    result = cli("index", "import", f"x{suffix}", *corpus, "-o", "back.index", "--encoder", "other")
    assert result.exit_code == 1
    assert "its vector is not what the encoder hashother makes of it" in result.stderr
    assert not Path("back.index").exists()


def test_few_documents_are_encoded_again(cli, encoders, write_corpus):
    corpus = write_corpus(40)
    cli("encode", corpus, "-o", "x.npy")
    before = encoders["default"].calls
    assert cli("index", "import", "x.npy", corpus, "-o", "x.index", "--encoder", "default").exit_code == 0
    assert encoders["default"].calls == before + 4


def test_a_vector_without_a_text_is_not_checked(cli, encoders):
    pq.write_table(pa.table({"id": ["a", "b"], "vector": np.eye(32)[:2].tolist()}), "bare.parquet")
    assert cli("index", "import", "bare.parquet", "-o", "x.index", "--encoder", "default").exit_code == 0


def test_further_columns_can_be_searched_by(cli, encoders):
    columns = {"id": ["a", "b"], "text": ["one", "one"], "year": [1, 2], "picture": [b"\xff", b""]}
    pq.write_table(pa.table({**columns, "vector": np.eye(32)[:2].tolist()}), "x.parquet")
    result = cli("index", "import", "x.parquet", "-o", "x.index")
    assert "binary columns not read: picture" in result.stderr
    answer = cli("search", "one", "--index", "x.index", "--mode", "lexical", "--where", "year = 2", "--json")
    assert [hit["id"] for hit in json.loads(answer.stdout)["hits"]] == ["b"]


def test_what_encode_writes_can_be_imported(cli, encoders, write_corpus):
    cli("encode", write_corpus(8), "-o", "own.parquet")
    result = cli("index", "import", "own.parquet", "-o", "own.index", "--encoder", "default")
    assert result.exit_code == 0, result.stderr
    cli("index", "build", write_corpus(8), "-o", "built.index")
    found = [hits(cli, path) for path in ("own.index", "built.index")]
    assert found[0] == found[1]


def test_parquet_brings_the_recipe_back(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    options = ["--chunk", 16, "--overlap", 4, "--language", "german", "--kind", "hnsw", "--target-recall", 0.9]
    cli("index", "build", corpus, *options)
    cli("index", "export", "corpus.index", "all.parquet")
    assert cli("index", "import", "all.parquet", "-o", "back.index", "--encoder", "default").exit_code == 0
    assert Index.open("back.index").settings == Index.open("corpus.index").settings
    assert "8 unchanged" in cli("index", "add", "back.index", corpus).stderr
    more = cli("index", "add", "back.index", write_corpus(11))
    assert "3 documents added (5 vectors), 8 unchanged" in more.stderr


def test_memory_vectors_stay_behind_and_nothing_is_encoded_for_that(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    cli("index", "build", corpus, "--memory")
    cli("index", "export", "corpus.index", "all.parquet")
    result = cli("index", "import", "all.parquet", "-o", "back.index", "--encoder", "default")
    assert result.exit_code == 0
    assert "memory vectors are not in the file" in result.stderr
    back = Index.open("back.index")
    assert (back.memory_tokens, back.settings["memory"]) == (0, False)
    assert "8 unchanged" in cli("index", "add", "back.index", corpus).stderr
    assert "not exported" in cli("index", "export", "--help").stdout


def test_a_document_that_was_changed_in_the_file_counts_as_changed(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    cli("index", "build", corpus, "--memory")
    cli("index", "export", "corpus.index", "all.parquet")
    table = pq.read_table("all.parquet")
    metadata = ["{}" if row["id"] == "bread-2" else row["metadata"] for row in table.to_pylist()]
    pq.write_table(table.set_column(3, "metadata", pa.array(metadata)), "all.parquet")
    imported = cli("index", "import", "all.parquet", "-o", "back.index", "--encoder", "default")
    assert "by words only" not in imported.stderr
    assert "0 documents added, 1 replaced" in cli("index", "add", "back.index", corpus).stderr


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_import_takes_a_language(cli, exported, suffix):
    cli("index", "export", "corpus.index", f"x{suffix}")
    corpus = [exported] if suffix == ".npy" else []
    assert cli("index", "import", f"x{suffix}", *corpus, "-o", "back.index", "--language", "none").exit_code == 0
    assert Index.open("back.index").settings["language"] == "none"


def test_vectors_of_an_unknown_encoder_are_searched_by_words_only(cli, built, encoders):
    cli("index", "export", built, "all.parquet")
    result = cli("index", "import", "all.parquet", "-o", "back.index")
    assert result.exit_code == 0
    assert "searched by words only (import them with --encoder to search" in " ".join(result.stderr.split())
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
    assert f"vectors.npy: vectors: {rows} rows" in result.stderr
    assert not Path("back.index").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vectors.npy"], 2, "CORPUS must be given"),
        (["all.parquet", "corpus.jsonl"], 2, "brings its own"),
        (["vectors.txt"], 2, ".parquet or .npy"),
        (["nothing.parquet"], 1, "nothing.parquet"),
        (["vectors.npy", "corpus.jsonl", "--encoder", "default"], 2, "5 dimensions"),
        (["vectors.npy", "corpus.jsonl", "--language", "klingon"], 2, "--language must be none or"),
    ],
)
def test_wrong_imports_are_one_line(cli, encoders, write_corpus, arguments, code, message):
    write_corpus(8)
    np.save("vectors.npy", np.ones((8, 5), np.float32))
    result = cli("index", "import", *arguments, "-o", "back.index")
    assert result.exit_code == code
    assert message in result.stderr
    assert not Path("back.index").exists()


@pytest.mark.parametrize(
    ("ids", "row", "message"),
    [
        (["a", "", "c"], [1.0, 2.0], "row 2 has no id"),
        (["a", "b", "c"], [0.0, 0.0], "vectors: row 1 is all zeros and has no cosine (document 'b')"),
        (["a", "b", "a"], [1.0, 2.0], "1 ids stand on several rows that are not next to each other"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(cli, encoders, ids, row, message):
    rows = [[1.0, 1.0], row, [1.0, 1.0]]
    pq.write_table(pa.table({"id": ids, "vector": rows}), "theirs.parquet")
    result = cli("index", "import", "theirs.parquet", "-o", "back.index")
    assert (result.exit_code, result.stderr) == (1, f"Error: theirs.parquet: {message}\n")
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


def test_export_to_an_engine(cli, write_corpus, encoders):
    assert cli("index", "build", write_corpus(8), "-o", "c.index").exit_code == 0
    result = cli("index", "export", "c.index", "parts", "--to", "parquet", "--name", "notes", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["engine"], report["name"], report["rows"], report["written"]) == ("parquet", "notes", 8, 8)
    assert (
        "8 rows in notes, 8 of them sent now; 8 of 8 were found again, with 100.0 % of the neighbours" in result.stderr
    )
    assert [path.name for path in Path("parts").iterdir()] == ["notes-000000.parquet"]
    wrong = cli("index", "export", "c.index", "x", "--to", "milvus")
    assert (wrong.exit_code, wrong.stderr.startswith("Error: --to must be one of qdrant, lancedb")) == (2, True)
