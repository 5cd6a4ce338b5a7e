"""``llm2comp cluster``: files and indexes in, a folder out; new documents by --with; errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

FILES = ["documents.csv", "documents.jsonl", "map.html", "map.png", "model", "report.md", "topics.csv", "topics.json"]
TOPICS = ("cells", "stars", "bread", "ships")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def corpus(write_corpus, encoders):
    """80 documents about four topics."""
    return write_corpus(80)


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def rows(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def one_line(result, code):
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_corpus(cli, corpus):
    result = cli("cluster", corpus)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("corpus.clusters").iterdir()) == FILES
    table = rows("corpus.clusters/documents.jsonl")
    found = {topic: {row["cluster"] for row in table if row["_id"].startswith(topic)} for topic in TOPICS}
    assert all(len(clusters) == 1 for clusters in found.values())
    assert len(set.union(*found.values())) == 4
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "most central document" in lines[1]
    assert sum(line.split()[2:3] == ["25.0%"] for line in lines) == 4
    assert any("(outliers)" in line for line in lines)
    assert "HDBSCAN left out 0 (0.0%); the policy threshold 0.5 leaves 0 (0.0%)" in lines
    assert "silhouette (cosine, original vectors):" in result.stdout
    assert "corpus.clusters: open map.html in a browser" in result.stderr


def test_json(cli, corpus):
    result = cli("cluster", corpus, "--json", "--label-field", "year", "-o", "else.clusters", "--parquet")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["output"], answer["documents"]) == ("else.clusters", 80)
    assert (answer["outliers"], answer["left_out"]) == (0, 0)
    assert answer["topics"] == json.loads(Path("else.clusters/topics.json").read_text())["topics"]
    assert sum(topic["size"] for topic in answer["topics"] if topic["level"] == 1) == 80
    assert (Path("else.clusters") / "documents.parquet").is_file()


def test_label_field(cli, corpus):
    result = cli("cluster", corpus, "--json", "--label-field", "year")
    scores = json.loads(result.stdout)["scores"]
    assert {"v_measure", "nmi", "ari", "purity", "outlier_share", "silhouette", "dbcv"} == set(scores)
    assert "--label-field topic: no document has this field" in one_line(
        cli("cluster", corpus, "--label-field", "topic"), 1
    )


def test_two_runs_give_the_same_files_and_nothing_is_encoded_twice(cli, corpus, encoders):
    assert cli("cluster", corpus).exit_code == 0
    first = bytes_of("corpus.clusters")
    encoders["default"].calls = 0
    assert cli("cluster", corpus).exit_code == 0
    assert bytes_of("corpus.clusters") == first
    assert encoders["default"].calls == 0
    assert cli("cluster", corpus, "--no-cache").exit_code == 0
    assert bytes_of("corpus.clusters") == first
    assert encoders["default"].calls == 80


def test_an_index_is_clustered_with_its_own_vectors(cli, corpus, encoders):
    assert cli("index", "build", corpus).exit_code == 0
    encoders["default"].calls = 0
    result = cli("cluster", "corpus.index")
    assert result.exit_code == 0, result.stderr
    assert encoders["default"].calls == 0
    assert sorted(path.name for path in Path("corpus.clusters").iterdir()) == FILES
    assert cli("cluster", corpus, "-o", "file.clusters").exit_code == 0
    one, other = (
        {row["_id"]: row["cluster"] for row in rows(f"{name}.clusters/documents.jsonl")} for name in ("corpus", "file")
    )
    pairs = {(one[id_], other[id_]) for id_ in one}
    assert one.keys() == other.keys()
    assert len(pairs) == 4, "the same topics, if perhaps in another order"


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative", "spectral"])
def test_with_reproduces_the_labels(method, cli, corpus, encoders):
    """Given as the file, as standard input, and as an index, and nothing is encoded for it."""
    assert cli("cluster", corpus, "--method", method).exit_code == 0
    encoders["default"].calls = 0
    table = rows("corpus.clusters/documents.jsonl")
    result = cli("cluster", corpus, "--with", "corpus.clusters", "-o", "again.jsonl")
    assert result.exit_code == 0, result.stderr
    assert rows("again.jsonl") == table
    result = cli("cluster", "-", "--with", "corpus.clusters", "-o", "piped.jsonl", input=corpus.read_text())
    assert result.exit_code == 0, result.stderr
    assert rows("piped.jsonl") == table
    assert encoders["default"].calls == 0
    assert cli("index", "build", corpus).exit_code == 0
    assert cli("cluster", "corpus.index", "--with", "corpus.clusters", "-o", "index.jsonl").exit_code == 0
    by_id = {row["_id"]: row for row in table}
    assert all(by_id[row["_id"]] == row for row in rows("index.jsonl"))


def test_with_assigns_new_documents(cli, corpus, write_corpus):
    assert cli("cluster", corpus).exit_code == 0
    cluster_of = {row["_id"].partition("-")[0]: row["cluster"] for row in rows("corpus.clusters/documents.jsonl")}
    new = write_corpus(100, "new.jsonl")
    result = cli("cluster", new, "--with", "corpus.clusters", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["output"], answer["documents"]) == (str(new.with_name("new.clusters.jsonl")), 100)
    assert all(row["cluster"] == cluster_of[row["_id"].partition("-")[0]] for row in rows(answer["output"]))
    assert sum(topic["size"] for topic in answer["topics"]) + answer["outliers"] == 100
    table = cli("cluster", new, "--with", "corpus.clusters").stdout
    assert "(outliers)" in table
    assert answer["topics"][0]["name"][:12] in table


def test_with_another_encoder_is_refused_by_name(cli, corpus, write_corpus):
    assert cli("cluster", corpus).exit_code == 0
    new = write_corpus(90, "new.jsonl")
    message = one_line(cli("cluster", new, "--with", "corpus.clusters", "--encoder", "other"), 1)
    assert "was fitted with the encoder hash; this is another one, hashother" in message


def test_vectors_that_are_not_numbers_are_named(cli, corpus, encoders, monkeypatch):
    from llm2comp_apps.clustering.output import model_files

    real = type(encoders["default"]).encode

    def broken(self, texts, **options):
        vectors = real(self, texts, **options)
        vectors[["Note 9 " in text for text in texts]] = np.nan
        return vectors

    monkeypatch.setattr(type(encoders["default"]), "encode", broken)
    message = one_line(cli("cluster", corpus), 1)
    assert "the vector of document 'stars-9' has NaN or infinite values" in message
    assert not Path("corpus.clusters").exists()
    assert model_files.FORMAT == 2


def test_a_handful_of_documents_is_a_warning_not_an_error(cli, write_corpus, encoders):
    result = cli("cluster", write_corpus(3), "--json")
    assert result.exit_code == 0
    (warning,) = json.loads(result.stdout)["warnings"]
    assert warning in result.stderr
    assert "3 documents are fewer than a topic needs (5): all are outliers; see --min-cluster-size" in warning


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.jsonl"], 1, "none.jsonl"),
        (
            ["CORPUS", "--method", "dbscan"],
            2,
            "--method must be one of hdbscan, kmeans, agglomerative, spectral",
        ),
        (
            ["CORPUS", "--k", "5"],
            2,
            "--k has no effect: hdbscan finds the number itself; try --method kmeans",
        ),
        (["CORPUS", "--method", "kmeans", "--k", "81"], 1, "--k 81: there are only 80 documents"),
        (["CORPUS", "--with", "none.clusters"], 2, "none.clusters holds no clustering"),
        (["CORPUS", "CORPUS"], 2, "--output is needed to place the result of several corpora or of standard input"),
        (["-"], 2, "--output is needed to place the result of several corpora or of standard input"),
        (["CORPUS", "-o", "."], 2, "exists and is no clustering; name another folder"),
        (["CORPUS", "--outliers", "drop"], 2, "--outliers must be one of keep, nearest, threshold, not drop"),
        (["made.index", "--encoder", "other"], 2, "--encoder has no place beside an index, which has its vectors"),
        (["made.index", "CORPUS", "-o", "x"], 2, "made.index is an index: cluster it alone"),
        (["CORPUS", "--merge", "nan"], 2, "--merge must be above 0, not nan"),
        (["CORPUS", "--seed", "-1"], 2, "--seed must be between 0 and 4294967295, not -1"),
        (["CORPUS", "--method", "kmeans", "--k", "3", "--merge", "0.7"], 2, "--merge: with --k, no topics are joined"),
    ],
)
def test_errors_are_one_line(arguments, code, message, cli, corpus):
    if "made.index" in arguments:
        assert cli("index", "build", corpus, "-o", "made.index").exit_code == 0
    arguments = [corpus if argument == "CORPUS" else argument for argument in arguments]
    assert message in one_line(cli("cluster", *arguments), code)


def test_an_empty_file_is_an_error(cli, tmp_path, encoders):
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in one_line(cli("cluster", "empty.jsonl"), 1)


def test_names_by_the_language_model(cli, corpus, monkeypatch):
    """The model itself is not run here: what is asked of it and what becomes of its answers."""
    asked = []

    class Writer:
        def write(self, prompt):
            return "Title: Things of one kind" if "Keywords: " in prompt else ""

        def likelihood(self, titles, prompt):
            given = not prompt.endswith("Texts:\nTitle:")
            return np.array([given and "Things" in title for title in titles], np.float32)

    def writer(name, device=None):
        asked.append(name)
        return Writer()

    monkeypatch.setattr("llm2comp_apps.clustering.describing.llm_names.backbone_writer", writer)
    result = cli("cluster", corpus, "--name-with-llm", "--json")
    assert result.exit_code == 0, result.stderr
    assert len(asked) == 1
    names = [topic["name"] for topic in json.loads(result.stdout)["topics"] if topic["level"] == 1]
    assert names[0] == "Things of one kind"
    assert len(set(names)) == len(names)


def test_documents_cannot_command_the_terminal_by_the_table(capsys):
    from llm2comp_apps.cli.ui.tables import print_tables
    from llm2comp_apps.text_table import TextTable

    print_tables([TextTable(header=["topic", "name"], rows=[["0", "clear\x1b[2J the \x9bscreen"]])])
    printed = capsys.readouterr().out
    assert "clear[2J the screen" in printed
    assert set(printed) & {"\x1b", "\x9b"} == set()


@pytest.fixture
def mail(tmp_path, corpus):
    """A corpus of 30 documents about a subject of its own, and 20 of the corpus itself."""
    path = tmp_path / "mail.jsonl"
    text = "The postman delivers parcels and letters every morning, stamps included. Walk"
    lines = [json.dumps({"_id": f"mail-{n}", "text": f"{text} {n}."}) + "\n" for n in range(30)]
    path.write_text("".join(lines) + "".join((tmp_path / "corpus.jsonl").read_text().splitlines(keepends=True)[:20]))
    return path


def test_update_adds_documents_and_topics(cli, corpus, mail, encoders):
    assert cli("cluster", corpus, "--parquet").exit_code == 0
    before = {row["_id"]: row for row in rows("corpus.clusters/documents.jsonl")}
    encoders["default"].calls = 0
    result = cli("cluster", mail, "--update", "corpus.clusters")
    assert result.exit_code == 0, result.stderr
    assert encoders["default"].calls == 30, "what is there is not encoded again"
    assert "30 documents added, 0 replaced, 20 unchanged" in result.stderr
    assert sum(line.split()[2:3] == ["new"] for line in result.stdout.splitlines()) == 1
    assert sorted(path.name for path in Path("corpus.clusters").iterdir()) == sorted([*FILES, "documents.parquet"])
    table = {row["_id"]: row for row in rows("corpus.clusters/documents.jsonl")}
    assert len(table) == 110
    assert {id_: table[id_]["cluster"] for id_ in before} == {id_: before[id_]["cluster"] for id_ in before}
    came = [row["cluster"] for id_, row in table.items() if id_.startswith("mail")]
    (new,) = set(came) - {-1}
    assert came.count(new) >= 25
    assert new not in {row["cluster"] for row in before.values()}
    written = bytes_of("corpus.clusters")
    again = cli("cluster", mail, "--update", "corpus.clusters", "--json")
    answer = json.loads(again.stdout)["update"]
    assert (answer["added"], answer["unchanged"], answer["new_topics"]) == (0, 50, {})
    assert bytes_of("corpus.clusters") == written
    assert cli("cluster", mail, "--with", "corpus.clusters", "-o", "again.jsonl").exit_code == 0
    assert all(row == table[row["_id"]] for row in rows("again.jsonl"))


def test_an_update_keeps_the_ids_that_version_0_1_gave_to_files(cli, corpus, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    records = [json.loads(line) for line in corpus.read_text().splitlines()]
    for number, record in enumerate(records):
        (notes / f"{number}.md").write_text(record["text"])
    old = [json.dumps({"_id": f"{number}.md", "text": record["text"]}) for number, record in enumerate(records)]
    (tmp_path / "notes.jsonl").write_text("\n".join(old))
    assert cli("cluster", "notes.jsonl").exit_code == 0
    (notes / "new.md").write_text("Another text about stars and gas.")
    result = cli("cluster", "notes", "--update", "notes.clusters")
    assert "1 documents added, 0 replaced, 80 unchanged" in result.stderr
    assert "new.md" in {row["_id"] for row in rows("notes.clusters/documents.jsonl")}


def test_update_may_write_elsewhere_and_leaves_the_folder_as_it_was_then(cli, corpus, mail):
    assert cli("cluster", corpus).exit_code == 0
    before = bytes_of("corpus.clusters")
    result = cli("cluster", mail, "--update", "corpus.clusters", "-o", "more.clusters", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["output"], answer["documents"], answer["update"]["added"]) == ("more.clusters", 110, 30)
    assert sum(topic["size"] for topic in answer["topics"] if topic["level"] == 1) + answer["outliers"] == 110
    assert bytes_of("corpus.clusters") == before
    assert len(rows("more.clusters/documents.jsonl")) == 110


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--update", "none.clusters"], 2, "none.clusters holds no clustering"),
        (["--update", "corpus.clusters", "--with", "corpus.clusters"], 2, "--update: with --with, nothing is added"),
        (["--update", "corpus.clusters", "--levels", "2"], 2, "--levels: --update has the settings of corpus.clusters"),
        (["--update", "corpus.clusters", "--min-cluster-size", "1"], 2, "--min-cluster-size must be at least 2, not 1"),
        (["--update", "corpus.clusters", "--encoder", "other"], 1, "fitted with the encoder hash; this is another one"),
        (["--update", "corpus.clusters", "-o", "corpus.jsonl"], 2, "--output corpus.jsonl exists and is no clustering"),
    ],
)
def test_updates_that_are_refused_change_nothing(arguments, code, message, cli, corpus, mail):
    assert cli("cluster", corpus).exit_code == 0
    before = bytes_of(".")
    assert message in one_line(cli("cluster", mail, *arguments), code)
    assert bytes_of(".") == before


@pytest.fixture
def imported(cli, write_corpus):
    """Makes ``NAME.index`` of the vectors given."""

    def make(vectors, name="imported"):
        np.save(f"{name}.npy", np.asarray(vectors, np.float32))
        texts = write_corpus(len(vectors), f"{name}.jsonl")
        result = cli("index", "import", f"{name}.npy", texts, "-o", f"{name}.index")
        assert result.exit_code == 0, result.stderr
        return f"{name}.index"

    return make


def test_noise_is_called_so_and_both_shares_are_told(cli, imported):
    index = imported(np.random.default_rng(0).standard_normal((300, 384)))
    result = cli("cluster", index, "--min-cluster-size", "5", "--merge", "2", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    outliers, left_out = answer["outliers"], answer["left_out"]
    assert left_out >= outliers > 0
    assert any("the topics may be chance" in line for line in answer["warnings"])
    line = f"HDBSCAN left out {left_out} ({left_out / 300:.1%}); the policy threshold"
    assert line in Path("imported.clusters/report.md").read_text()
    assert line in cli("cluster", index, "--min-cluster-size", "5", "--merge", "2").stdout


def test_fewer_topics_than_asked_for_are_told_in_our_words(cli, imported):
    index = imported(np.eye(3)[np.arange(80) % 3])
    result = cli("cluster", index, "--method", "kmeans", "--reduce", "pca", "--k", "5")
    assert result.exit_code == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "arning" in line]
    assert warnings == [
        "Warning: --k 5: 3 topics were made, since more would have had no documents; "
        "only 3 of the 80 vectors are different"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "CORPUS"], 2, "exists and is no clustering; name another folder"),
        (["-o", "/proc/none/x.clusters"], 1, "/proc/none/x.clusters: cannot be written"),
        (["--label-field", "nope"], 1, "--label-field nope: no document has this field; they have year"),
        (["--method", "kmeans", "--k", "81"], 1, "--k 81: there are only 80 documents"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_encoded(arguments, code, message, cli, corpus, encoders):
    before = corpus.read_bytes()
    arguments = [corpus if argument == "CORPUS" else argument for argument in arguments]
    assert message in one_line(cli("cluster", corpus, *arguments), code)
    assert encoders.loaded == []
    assert corpus.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label-field", "nope"], "--label-field nope: no document has this field"),
        (["--method", "kmeans", "--k", "81"], "--k 81: there are only 80 documents"),
    ],
)
def test_an_index_says_so_before_its_vectors_are_read(arguments, message, cli, imported, monkeypatch):
    from llm2comp_indexes import Index

    index = imported(np.eye(80))
    monkeypatch.setattr(Index, "vectors", lambda *_: pytest.fail("vectors are read"))
    assert message in one_line(cli("cluster", index, *arguments), 1)


def test_with_never_writes_over_what_it_reads_or_what_is_not_its_own(cli, corpus, write_corpus, encoders):
    assert cli("cluster", corpus).exit_code == 0
    new, mine = write_corpus(90, "new.jsonl"), Path("thesis.jsonl")
    mine.write_text("years of work")
    encoders.loaded.clear()
    before = bytes_of(".")
    for target, message in (
        (new, "new.jsonl is read as"),
        (mine, "thesis.jsonl exists and is no table of documents"),
        ("corpus.clusters/documents.jsonl", "lies in the clustering corpus.clusters, which is read"),
        ("missing/new.jsonl", "cannot be written"),
        ("table.csv", "--output table.csv must end in .jsonl or .parquet"),
    ):
        result = cli("cluster", new, "--with", "corpus.clusters", "-o", target)
        assert message in one_line(result, 1 if target == "missing/new.jsonl" else 2)
        assert "documents from" not in result.stderr, "nothing has been read"
        assert bytes_of(".") == before
    assert encoders.loaded == []


def test_with_writes_the_format_that_the_name_says(cli, corpus):
    from pyarrow import parquet

    assert cli("cluster", corpus).exit_code == 0
    for _ in range(2):  # the second time over the first result
        result = cli("cluster", corpus, "--with", "corpus.clusters", "-o", "again.parquet")
        assert result.exit_code == 0, result.stderr
        assert cli("cluster", corpus, "--with", "corpus.clusters", "-o", "again.jsonl").exit_code == 0
    table = rows("corpus.clusters/documents.jsonl")
    assert rows("again.jsonl") == table
    assert [row["cluster"] for row in parquet.read_table("again.parquet").to_pylist()] == [r["cluster"] for r in table]


@pytest.mark.parametrize(
    "given",
    ["--method hdbscan", "--k 5", "--min-cluster-size 5", "--reduce pca", "--outliers keep", "--outlier-threshold 0.3",
     "--merge 0.5", "--seed 1", "--levels 2", "--name-with-llm", "--language none", "--label-field year"],
)  # fmt: skip
def test_options_of_fitting_have_no_place_beside_with(given, cli, corpus):
    message = one_line(cli("cluster", corpus, "--with", "x.clusters", *given.split()), 2)
    option = given.split()[0]
    assert f"{option}: --with assigns to the topics of x.clusters as they were made; leave it out" in message


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--id-field x", "its documents are read already"),
        ("--title-field x", "its documents are read already"),
        ("--text-field x", "its documents are read already"),
        ("--format auto", "its documents are read already"),
        ("--encoding utf-8", "its documents are read already"),
        ("--encoding-errors replace", "its documents are read already"),
        ("--on-error skip", "its documents are read already"),
        ("--no-cache", "nothing is encoded"),
        ("--device cpu", "nothing is encoded"),
    ],
)
def test_options_of_reading_and_encoding_have_no_place_beside_an_index(given, why, cli, imported):
    index = imported(np.eye(80))
    message = one_line(cli("cluster", index, *given.split()), 2)
    assert f"{given.split()[0]}: imported.index is an index, {why}; leave it out" in message
    assert not Path("imported.clusters").exists()


def test_an_update_without_news_writes_the_table_that_is_asked_for(cli, encoders, write_corpus):
    corpus = write_corpus(60)
    assert cli("cluster", corpus).exit_code == 0
    table = Path("corpus.clusters") / "documents.parquet"
    assert not table.exists()
    assert cli("cluster", corpus, "--update", "corpus.clusters", "--parquet").exit_code == 0
    assert table.is_file()
