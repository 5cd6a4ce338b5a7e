"""A collection of a corpus: a broken corpus leaves nothing behind, and what is there is not built otherwise."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, CorpusError, Document, UsageError, read_corpus
from llm2comp_apps.corpus import CorpusOptions
from llm2comp_apps.retrieval.making import check_sources, make_collection, options_as_held


@pytest.fixture(autouse=True)
def encoder(monkeypatch, make_hash_encoder):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: make_hash_encoder())


def test_a_look_that_fails_leaves_nothing_behind(tmp_path):
    def broken(index, plan, encoder):
        assert index is None
        raise CorpusError("line 3")

    with pytest.raises(CorpusError, match="line 3"), make_collection(tmp_path / "a.index", {}, broken):
        pytest.fail("there is nothing to fill")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_before_the_first_commit_leaves_nothing_behind_and_later_keeps_what_is_committed(tmp_path):
    path = tmp_path / "a.index"
    with pytest.raises(CorpusError), make_collection(path, {}, lambda *_: None):
        raise CorpusError("no document came")
    assert not path.exists()

    def fill_and_fail():
        with make_collection(path, {}, lambda *_: None) as (made, _):
            made.update([Document("a", "Cells divide.")])
            raise CorpusError("line 3")

    with pytest.raises(CorpusError):
        fill_and_fail()
    with make_collection(path, {}, lambda index, plan, encoder: len(index)) as (_, found):
        assert found == 1


def test_it_is_made_once_and_opened_from_then_on(tmp_path):
    path = tmp_path / "a.index"
    settings = {"memory": True}
    with make_collection(path, settings, lambda index, plan, encoder: (index, plan.memory)) as (made, seen):
        assert seen == (None, True)
        made.update([Document("a", "Cells divide.")])
    with make_collection(path, settings, lambda index, plan, encoder: len(index)) as (opened, found):
        assert (found, len(opened)) == (1, 1)
    other = make_collection(path, {"memory": False}, lambda *_: pytest.fail("no look at a corpus for another index"))
    with pytest.raises(UsageError) as refused, other:
        pytest.fail("the collection was built otherwise")
    assert refused.value.field == "memory"


def test_sources_are_missed_at_once_and_standard_input_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert check_sources([str(tmp_path / "a.txt")], CorpusOptions())
    assert not check_sources(["-"], CorpusOptions())
    with pytest.raises(CorpusError):
        check_sources([str(tmp_path / "b.txt")], CorpusOptions())


def test_an_index_of_version_0_1_keeps_the_ids_that_it_has(tmp_path, hash_encoder):
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("a.md", "b.md", "c.md"):
        (notes / name).write_text(f"note {name}")
    wanted = CorpusOptions()
    assert options_as_held(None, [str(notes)], wanted) is wanted
    with Collection.create(tmp_path / "old.index", encoder=hash_encoder) as old:
        old.update(Document(name, f"note {name}", title="") for name in ("a.md", "b.md", "elsewhere"))
        options = options_as_held(old.index, [str(notes)], wanted)
        assert not options.folder_in_ids
        assert old.update(read_corpus([notes], options)).unchanged == 2
        assert set(old.index.ids()) == {"a.md", "b.md", "c.md", "elsewhere"}
    with Collection.create(tmp_path / "new.index", encoder=hash_encoder) as new:
        new.update([Document("a.md", "of another folder")])
        assert options_as_held(new.index, [str(notes)], wanted) is wanted
