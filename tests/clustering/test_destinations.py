"""Where a result may go: nothing that a person wrote is ever in its place afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from llm2comp_apps.clustering.output.destinations import check_folder, check_table, choose_target
from llm2comp_apps.clustering.output.store import write_rows
from llm2comp_apps.clustering.sources import named_index
from llm2comp_apps.errors import ClusteringError, UsageError

ROW = {"_id": "a", "cluster": -1, "name": None, "probability": 0.0, "second_cluster": None, "second_probability": 0.0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a corpus, a folder of notes, a clustering and an index; none of them with content."""
    monkeypatch.chdir(tmp_path)
    Path("corpus.jsonl").write_text('{"text": "years of work"}\n')
    for path in ("notes/a.md", "x.clusters/topics.json", "x.clusters/model/model.json", "made.index/store.db"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("mine")
    return tmp_path


def everything():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("target", "docs", "message"),
    [
        ("corpus.jsonl", ["corpus.jsonl"], "output corpus.jsonl is read as corpus.jsonl; name another file"),
        ("./notes/../corpus.jsonl", ["corpus.jsonl"], "is read as corpus.jsonl"),
        ("corpus.jsonl", ["-"], "output corpus.jsonl exists and is no table of documents; name another file"),
        ("x.clusters/new.jsonl", ["-"], "output x.clusters/new.jsonl lies in the clustering x.clusters, which is read"),
        ("x.clusters/model/new.jsonl", ["-"], "lies in the clustering x.clusters, which is read"),
        (
            "notes/new.jsonl",
            ["notes"],
            "output notes/new.jsonl lies in notes, which is read; write",
        ),
        ("made.index/new.jsonl", ["made.index"], "lies in made.index, which is read"),
        ("out.csv", ["-"], "output out.csv must end in .jsonl or .parquet"),
        ("notes", ["-"], "output notes must end in .jsonl or .parquet"),
        ("directory.jsonl", ["-"], "directory.jsonl exists and is no table of documents"),
    ],
)
@pytest.mark.parametrize("parquet", [False, True])
def test_tables_that_are_refused(parquet, target, docs, message):
    Path("directory.jsonl").mkdir()
    before = everything()
    with pytest.raises(UsageError) as caught:
        check_table(Path(target), docs, Path("x.clusters"), parquet=parquet)
    assert message in str(caught.value)
    assert everything() == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_corpus_is_recognised_under_another_name(link):
    link("corpus.jsonl", "other.jsonl")
    with pytest.raises(UsageError, match=r"output other\.jsonl is read as corpus\.jsonl"):
        check_table(Path("other.jsonl"), ["corpus.jsonl"], Path("x.clusters"))


def test_the_parquet_file_beside_is_asked_about_too():
    pyarrow.parquet.write_table(pyarrow.table({"text": ["years of work"]}), "table.parquet")
    check_table(Path("table.clusters.jsonl"), ["table.parquet"], Path("x.clusters"), parquet=True)
    with pytest.raises(UsageError, match=r"output table\.parquet is read as table\.parquet"):
        check_table(Path("table.jsonl"), ["table.parquet"], Path("x.clusters"), parquet=True)
    with pytest.raises(UsageError, match=r"table\.parquet exists and is no table"):
        check_table(Path("table.parquet"), ["notes"], Path("x.clusters"))


@pytest.mark.parametrize("name", ["new.jsonl", "new.parquet", "NEW.PARQUET"])
def test_an_earlier_table_is_replaced_and_the_ending_chooses_the_format(name):
    path = Path(name)
    for rows in ([ROW], [ROW, ROW]):
        check_table(path, ["corpus.jsonl"], Path("x.clusters"))
        write_rows(rows, path)
    if path.suffix == ".jsonl":
        assert path.read_text().count("\n") == 2
    else:
        assert pyarrow.parquet.read_table(path).to_pylist() == [ROW, ROW]


def test_a_parquet_name_and_the_option_write_one_file(folder):
    before = set(folder.iterdir())
    write_rows([ROW], Path("new.parquet"), parquet=True)
    assert {path.name for path in set(folder.iterdir()) - before} == {"new.parquet"}
    assert pyarrow.parquet.read_table("new.parquet").to_pylist() == [ROW]


@pytest.mark.parametrize("content", ["years of work", "[1, 2]", '{"_id": "a", "text": "b"}', "\udcff"])
@pytest.mark.parametrize("name", ["mine.jsonl", "mine.parquet"])
def test_write_rows_itself_replaces_no_other_file(name, content):
    Path(name).write_bytes(content.encode("utf-8", "surrogateescape"))
    before = everything()
    with pytest.raises(UsageError, match="exists and is no table of documents"):
        write_rows([ROW], Path(name))
    assert everything() == before


def test_an_empty_file_is_nothing_to_lose():
    Path("new.jsonl").touch()
    check_table(Path("new.jsonl"), ["corpus.jsonl"], Path("x.clusters"))


@pytest.mark.parametrize(
    ("target", "docs", "message"),
    [
        ("corpus.jsonl", ["corpus.jsonl"], "output corpus.jsonl exists and is no clustering; name another folder"),
        ("notes", ["corpus.jsonl"], "notes exists and is no clustering"),
        ("made.index", ["made.index"], "made.index exists and is no clustering"),
        ("bertopic", ["corpus.jsonl"], "bertopic exists and is no clustering"),
        ("made.index/x.clusters", ["made.index"], "output made.index/x.clusters lies in made.index, which is read"),
        ("notes/topics", ["notes"], "output notes/topics lies in notes, which is read"),
        ("x.clusters", ["x.clusters/new.jsonl"], "output x.clusters holds x.clusters/new.jsonl and would replace it"),
        ("x.clusters", ["x.clusters/old"], "output x.clusters holds x.clusters/old and would replace it"),
        ("empty/..", ["-"], "exists and is no clustering"),
    ],
)
def test_folders_that_are_refused(target, docs, message):
    Path("empty").mkdir()
    Path("bertopic").mkdir()
    Path("bertopic/topics.json").touch()  # the name of a file of that library's, too
    before = everything()
    with pytest.raises(UsageError) as caught:
        check_folder(Path(target), docs)
    assert message in str(caught.value)
    assert everything() == before


def test_the_working_directory_has_no_name_to_be_replaced_by(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="give the folder by its name"):
        check_folder(Path(), ["../corpus.jsonl"])


def test_what_is_fine_leaves_no_trace(folder):
    before = sorted(folder.rglob("*"))
    check_folder(Path("x.clusters"), ["corpus.jsonl"])
    check_folder(Path("new/deep/y.clusters"), ["corpus.jsonl"])
    check_folder(Path("notes/y.clusters"), ["notes"])  # which reading the folder passes over
    check_table(Path("new.jsonl"), ["corpus.jsonl", "-"], Path("x.clusters"), parquet=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("place", ["/proc/none", "corpus.jsonl"])
def test_places_where_nothing_can_be_written(place):
    """Root may write anywhere, so no folder without permission is tried: a file system and a file that take none."""
    with pytest.raises(ClusteringError, match="cannot be written: "):
        check_folder(Path(place) / "y.clusters", ["-"])
    with pytest.raises(ClusteringError, match="cannot be written: "):
        check_table(Path(place) / "y.jsonl", ["-"], Path("x.clusters"))
    with pytest.raises(ClusteringError, match="cannot be written: No such file or directory"):
        check_table(Path("missing/y.jsonl"), ["-"], Path("x.clusters"))


@pytest.mark.parametrize(
    ("docs", "model", "target"),
    [
        (["corpus.jsonl"], None, "corpus.clusters"),
        (["notes"], None, "notes.clusters"),
        (["made.index"], None, "made.clusters"),
        (["corpus.jsonl"], Path("x.clusters"), "corpus.clusters.jsonl"),
    ],
)
def test_a_result_goes_beside_what_it_is_made_from(docs, model, target):
    assert choose_target(docs, None, model=model).name == target
    assert choose_target(docs, Path("other.jsonl"), model=model) == Path("other.jsonl")


@pytest.mark.parametrize("docs", [["corpus.jsonl", "notes"], ["-"]])
def test_a_result_of_several_corpora_needs_a_place(docs):
    with pytest.raises(UsageError) as refused:
        choose_target(docs, None)
    assert refused.value.field == "output"
    assert choose_target(docs, Path("all.clusters")) == Path("all.clusters")


def test_an_index_is_clustered_alone_and_with_its_own_vectors():
    assert named_index(["corpus.jsonl"], "default") is None
    assert named_index(["made.index"]) == Path("made.index")
    with pytest.raises(UsageError, match="cluster it alone"):
        named_index(["corpus.jsonl", "made.index"])
    with pytest.raises(UsageError) as refused:
        named_index(["made.index"], "default")
    assert refused.value.field == "encoder"
