"""A writer that is left without commit changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from llm2comp_indexes import IndexedDocument, InputError
from llm2comp_indexes.core.writer import Writer


def one(name: str) -> IndexedDocument:
    return IndexedDocument(name, f"text of {name}")


def test_nothing_happens_without_commit(make_index, fill):
    index = make_index()
    fill(index, 5)
    before = index.generation
    with index.writer() as writer:
        writer.add([one("new")], np.ones((1, 8)))
        writer.delete(["d0"])

    def add_and_fail() -> None:
        with index.writer() as writer:
            writer.add([one("new")], np.ones((1, 8)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        add_and_fail()
    assert (index.generation, sorted(index.ids())) == (before, [f"d{i}" for i in range(5)])
    assert index.verify() == []
    assert list((index.path / "tmp").iterdir()) == []


def test_maintenance_commits_nothing_that_was_not_committed(make_index, fill, monkeypatch):
    index = make_index(settings={"kind": "sq8"})
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "maintain", lambda *_, **__: None)  # as if there had been no time for it
        fill(index, 2100)
    with index.writer() as writer:  # a FAISS index is still to be made
        writer.delete(["d3"])
        writer.add([one("ghost")], np.ones((1, 8)))
    assert index.info().kind == "SQ8"
    assert len(index) == 2100
    assert "ghost" not in set(index.ids())
    assert "d3" in set(index.ids())
    assert index.verify() == []
    assert index.search_lexical("ghost", 5) == []


def test_settings_are_not_kept_while_documents_wait(make_index, fill):
    index = make_index()
    fill(index, 3)
    with index.writer() as writer:
        writer.add([one("new")], np.ones((1, 8)))
        for commit_of_its_own in (lambda: writer.keep(x=1), writer.maintain):
            with pytest.raises(InputError, match="documents wait for `commit`"):
                commit_of_its_own()
        assert writer.documents == 4
        writer.abandon()
        assert writer.documents == 3
        writer.keep(x=1)
        writer.add([one("newer")], np.ones((1, 8)))
        writer.commit()
        writer.keep(y=2)
    assert set(index.ids()) == {"d0", "d1", "d2", "newer"}
    assert (index.settings["x"], index.settings["y"]) == (1, 2)
    assert index.verify() == []
