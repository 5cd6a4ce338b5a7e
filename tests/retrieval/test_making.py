"""A collection of a corpus: a broken corpus leaves nothing behind, and what is there is not built otherwise."""

from __future__ import annotations

import pytest

from llm2comp_apps import CorpusError, Document, UsageError
from llm2comp_apps.corpus import CorpusOptions
from llm2comp_apps.retrieval.making import check_sources, make_collection


@pytest.fixture(autouse=True)
def encoder(monkeypatch, make_hash_encoder):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: make_hash_encoder())


def test_a_look_that_fails_leaves_nothing_behind(tmp_path):
    def broken(index, plan, encoder):
        assert index is None
        raise CorpusError("line 3")

    with pytest.raises(CorpusError, match="line 3"):
        make_collection(tmp_path / "a.index", {}, broken)
    assert list(tmp_path.iterdir()) == []


def test_it_is_made_once_and_opened_from_then_on(tmp_path):
    path = tmp_path / "a.index"
    made, seen = make_collection(path, {"memory": True}, lambda index, plan, encoder: (index, plan.memory))
    assert seen == (None, True)
    made.update([Document("a", "Cells divide.")])
    opened, found = make_collection(path, {"memory": True}, lambda index, plan, encoder: len(index))
    assert (found, len(opened)) == (1, 1)
    with pytest.raises(UsageError) as refused:
        make_collection(path, {"memory": False}, lambda *_: pytest.fail("no look at a corpus for another index"))
    assert refused.value.field == "memory"


def test_sources_are_missed_at_once_and_standard_input_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert check_sources([str(tmp_path / "a.txt")], CorpusOptions())
    assert not check_sources(["-"], CorpusOptions())
    with pytest.raises(CorpusError):
        check_sources([str(tmp_path / "b.txt")], CorpusOptions())
