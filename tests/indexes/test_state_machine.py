"""Any sequence of changes, against a dictionary and brute force."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from llm2comp_indexes import Index, IndexedDocument, Policy

DIMENSION = 3
NAMES = st.sampled_from([f"n{i}" for i in range(12)])
WORDS = st.sampled_from(["apple", "banana", "cherry"])
COMPONENTS = st.integers(-3, 3)
VECTORS = st.tuples(COMPONENTS, COMPONENTS, COMPONENTS).filter(any)
CONTENT = st.tuples(NAMES, WORDS, st.integers(0, 3), st.lists(VECTORS, min_size=1, max_size=3))


class IndexMachine(RuleBasedStateMachine):
    """``committed`` is what a reader must see, ``pending`` what a commit would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.committed: dict[str, tuple[IndexedDocument, np.ndarray]] = {}
        self.pending: dict[str, tuple[IndexedDocument, np.ndarray]] = {}
        self.context = self.writer = None

    @initialize()
    def create(self) -> None:
        encoder = {"name": "test", "fingerprint": "0"}
        self.index = Index.create(self.folder / "index", dimension=DIMENSION, encoder=encoder)

    def write(self):
        if self.writer is None:
            self.context = self.index.writer()
            self.writer = self.context.__enter__()
        return self.writer

    def stop_writing(self) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)
        self.context = self.writer = None

    @rule(contents=st.lists(CONTENT, min_size=1, max_size=5))
    def add(self, contents) -> None:
        documents, vectors = [], []
        for name, word, number, rows in contents:
            spans = tuple((i, i + 1) for i in range(len(rows))) if len(rows) > 1 else ()
            document = IndexedDocument(name, f"{word} {name}", word, {"number": number}, spans, f"{word}{number}")
            documents.append(document)
            vectors.extend(rows)
            unit = np.array(rows, dtype=np.float32)
            unit /= np.linalg.norm(unit, axis=1, keepdims=True)
            self.pending[name] = (document, unit.astype(np.float16).astype(np.float32))
        self.write().add(documents, np.array(vectors))

    @rule(names=st.lists(NAMES, max_size=4))
    def delete(self, names) -> None:
        present = {name for name in names if name in self.pending}
        assert self.write().delete(names) == len(present)
        for name in present:
            del self.pending[name]

    @rule()
    def commit(self) -> None:
        self.write().commit()
        self.committed = dict(self.pending)
        self.stop_writing()

    @rule()
    def commit_and_go_on_writing(self) -> None:
        self.write().commit()
        self.committed = dict(self.pending)

    @rule()
    def give_up(self) -> None:
        self.stop_writing()
        self.pending = dict(self.committed)

    @rule(kind=st.sampled_from([None, "flat", "auto"]))
    def compact(self, kind) -> None:
        self.write().compact(None if kind is None else Policy(kind=kind))
        self.committed = dict(self.pending)
        self.stop_writing()
        assert self.index.info().deleted == 0

    @precondition(lambda self: self.writer is None)
    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = Index.open(self.folder / "index")

    @rule(query=VECTORS, k=st.integers(1, 15), limit=st.integers(0, 4))
    def search(self, query, k, limit) -> None:
        self.index.refresh()
        unit = np.array(query, dtype=np.float32) / np.linalg.norm(query)
        allowed = {n: v for n, (doc, v) in self.committed.items() if doc.metadata["number"] < limit}
        (hits,) = self.index.search(query, k, where=f"number < {limit}")
        scores = sorted((float((rows @ unit).max()) for rows in allowed.values()), reverse=True)
        np.testing.assert_allclose([hit.score for hit in hits], scores[:k], atol=1e-3)
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(allowed))
        for hit in hits:
            document, rows = self.committed[hit.id]
            chunk = document.spans.index(hit.span) if hit.span else 0
            assert bool(document.spans) == (hit.span is not None)
            np.testing.assert_allclose(hit.score, rows[chunk] @ unit, atol=1e-3)

    @rule(word=WORDS)
    def search_words(self, word) -> None:
        self.index.refresh()
        found = {hit.id for hit in self.index.search_lexical(word, 20)}
        assert found == {name for name, (document, _) in self.committed.items() if document.title == word}

    @invariant()
    def holds_what_was_committed(self) -> None:
        if not hasattr(self, "index"):
            return
        self.index.refresh()
        assert len(self.index) == len(self.committed)
        names = list(self.index.ids())
        assert sorted(names) == sorted(self.committed)
        assert self.index.get(names) == [self.committed[name][0] for name in names]

    def teardown(self) -> None:
        self.stop_writing()
        if hasattr(self, "index"):
            assert self.index.verify() == []
            self.index.close()
        shutil.rmtree(self.folder, ignore_errors=True)


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def run(count, examples: int, steps: int) -> None:
    """Count a step as tried, and as survived once the invariant was checked after it."""

    class Counted(IndexMachine):
        def check_invariants(self, *arguments) -> None:
            count.tried += 1
            super().check_invariants(*arguments)
            count.survived += 1

    run_state_machine_as_test(Counted, settings=settings(max_examples=examples, stateful_step_count=steps, **QUIET))


def test_any_sequence_of_changes(faults):
    run(faults("step of a random sequence"), 12, 12)


@pytest.mark.torture
def test_many_long_sequences_of_changes(faults):
    count = faults("step of a random sequence")
    run(count, 400, 40)
    count.note = "against a dictionary and brute force"
