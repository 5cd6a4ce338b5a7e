from __future__ import annotations

import pytest

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.discovery import default_index_path, find_index, new_index_path


@pytest.fixture
def two_indexes(tmp_path):
    for name in ("a.index", "b.index"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_named_one_comes_first_then_the_environment(two_indexes):
    a, b = two_indexes / "a.index", two_indexes / "b.index"
    assert find_index(a, environ={"LLM2COMP_INDEX": str(b)}, directory=two_indexes) == a
    assert find_index(None, environ={"LLM2COMP_INDEX": str(b)}, directory=two_indexes) == b


def test_the_only_one_of_the_directory(tmp_path):
    (tmp_path / "docs.index").mkdir()
    (tmp_path / "note.index").write_text("a file is no index")
    assert find_index(None, environ={}, directory=tmp_path) == tmp_path / "docs.index"


def test_several_are_listed(two_indexes):
    with pytest.raises(UsageError, match=r"a\.index, b\.index.*LLM2COMP_INDEX"):
        find_index(None, environ={}, directory=two_indexes)


def test_none_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="llm2comp index build"):
        find_index(None, environ={}, directory=tmp_path)


@pytest.mark.parametrize(
    ("named", "environ", "origin"), [("x", {}, ";"), (None, {"LLM2COMP_INDEX": "x"}, r" \(from \$LLM2COMP_INDEX\)")]
)
def test_a_missing_one_is_named_with_its_origin(tmp_path, monkeypatch, named, environ, origin):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"no index at x{origin}"):
        find_index(named, environ=environ)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("corpus.jsonl", "corpus.index"),
        ("corpus.jsonl.gz", "corpus.index"),
        ("notes.v2.md", "notes.v2.index"),
        ("README", "README.index"),
    ],
)
def test_the_index_lies_beside_a_file(tmp_path, name, expected):
    (tmp_path / name).write_text("")
    assert default_index_path(str(tmp_path / name)) == tmp_path / expected


def test_the_index_lies_beside_a_folder_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "my.docs").mkdir()
    assert default_index_path(str(tmp_path / "my.docs") + "/") == tmp_path / "my.docs.index"
    monkeypatch.chdir(tmp_path / "my.docs")
    assert default_index_path(".") == tmp_path / "my.docs.index"


def test_standard_input_needs_a_place():
    for sources in (["-"], ["a.jsonl", "b.jsonl"]):
        with pytest.raises(UsageError) as refused:
            new_index_path(sources)
        assert refused.value.field == "output"


def test_a_wanted_place_is_taken_unless_a_file_is_there(tmp_path):
    assert new_index_path(["-"], tmp_path / "x.index") == tmp_path / "x.index"
    (tmp_path / "corpus.jsonl").write_text("")
    with pytest.raises(UsageError, match="is a file, not an index"):
        new_index_path(["corpus.jsonl"], tmp_path / "corpus.jsonl")
