"""A small life of an index, step by step, with the state that each step must leave behind.

Run as a program it lives that life on a directory and prints a line around each step, for a parent that kills it:

    python workload.py DIRECTORY [--kill-at N] [--kill-at-point NAME:OCCURRENCE] [--limit-file-size BYTES]
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from llm2comp_indexes import Index, IndexedDocument, Policy
from llm2comp_indexes.dense import kinds
from llm2comp_indexes.storage import fs, merging

DIMENSION = 8
TOKENS = 2
State = dict[str, int]  # id -> version of its content


def vector(name: str, version: int, rows: int = 1) -> np.ndarray:
    """(rows, d) of unit length, exactly representable neighbours of nothing else."""
    rng = np.random.default_rng(zlib.crc32(f"{name}/{version}".encode()))
    matrix = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def document(name: str, version: int) -> IndexedDocument:
    """A document that says who it is; every third has two chunks."""
    text = f"name{name} version{version} both{name}x{version} common words"
    spans = ((0, 5), (5, len(text))) if zlib.crc32(name.encode()) % 3 == 0 else ()
    return IndexedDocument(name, text, f"title {name}", {"version": version, "name": name}, spans, f"{name}/{version}")


def vectors(documents: list[IndexedDocument]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and memory vectors of documents made by `document`."""
    parts = [vector(doc.id, doc.metadata["version"], doc.rows) for doc in documents]
    matrix = np.concatenate(parts)
    return matrix, np.repeat(matrix[:, None, :], TOKENS, axis=1)


@dataclass(frozen=True)
class Step:
    """One change: what to do, and what the index then holds."""

    name: str
    apply: Callable[[Index], None]
    after: State


def _add(names: list[str], version: int) -> Callable[[Index], None]:
    def apply(index: Index) -> None:
        documents = [document(name, version) for name in names]
        with index.writer() as writer:
            for start in range(0, len(documents), 4):
                part = documents[start : start + 4]
                writer.add(part, *vectors(part))
            writer.commit()

    return apply


def _delete(names: list[str]) -> Callable[[Index], None]:
    def apply(index: Index) -> None:
        with index.writer() as writer:
            writer.delete(names)
            writer.commit()

    return apply


def _index_with_faiss(index: Index) -> None:
    with mock.patch.object(kinds, "SMALL_ROWS", 20):
        index.compact(Policy(kind="SQ8", target_recall=0.1))
    assert index.info().kind == "SQ8"


def steps() -> Iterator[Step]:
    """Adds, replacements, deletions and compactions."""
    state: State = {}

    def add(label: str, names: list[str], version: int) -> Step:
        state.update(dict.fromkeys(names, version))
        return Step(label, _add(names, version), dict(state))

    def delete(label: str, names: list[str]) -> Step:
        for name in names:
            state.pop(name, None)
        return Step(label, _delete(names), dict(state))

    yield add("first documents", [f"a{i}" for i in range(6)], 1)
    yield add("more", [f"b{i}" for i in range(5)], 1)
    yield add("many", [f"m{i}" for i in range(15)], 1)
    yield Step("a FAISS index", _index_with_faiss, dict(state))
    yield add("replace some", ["a1", "a2", "b0", "c0"], 2)
    yield delete("delete some", ["a0", "b1", "nowhere"])
    yield Step("compact", lambda index: index.compact(), dict(state))
    yield add("after compaction", ["d0", "d1", "a0"], 3)
    yield delete("delete most", [f"b{i}" for i in range(5)])
    yield Step("compact with a policy", lambda index: index.compact(Policy(kind="flat")), dict(state))


def create(path: Path) -> Index:
    """The empty index that the steps start from."""
    return Index.create(path, dimension=DIMENSION, encoder={"name": "test", "fingerprint": "0"}, memory_tokens=TOKENS)


def contents(index: Index) -> State:
    """What the index holds, checked document by document: text, vectors, memory, dense and lexical search.

    Raises:
        AssertionError: a document is not what its version says.
    """
    names = list(index.ids())
    held = index.get(names)
    state = {doc.id: doc.metadata["version"] for doc in held}
    assert len(index) == len(names) == len(state)
    assert held == [document(name, state[name]) for name in names]
    if not names:
        assert index.search(vector("any", 0), 3) == [[]]
        assert index.search_lexical("common", 3) == []
        return state
    matrix, memory = vectors(held)
    np.testing.assert_allclose(index.vectors(names), matrix, atol=1e-3)
    spans = [doc.spans[-1] if doc.spans else None for doc in held]
    last = np.cumsum([doc.rows for doc in held]) - 1
    np.testing.assert_allclose(index.memory(names, spans), memory[last], atol=np.abs(memory).max() / 250)
    found = index.search(matrix[last], len(names))
    assert [hits[0].id for hits in found] == names
    assert all(sorted(hit.id for hit in hits) == sorted(names) for hits in found)
    assert {hit.id for hit in index.search_lexical("common", len(names) + 5)} == set(names)
    for doc in held:
        assert [hit.id for hit in index.search_lexical(f"both{doc.id}x{state[doc.id]}", 3)] == [doc.id]
    return state


def everything(path: Path) -> State:
    """An index with several segments, tombstones, chunks, memory and a FAISS index; returns its state."""
    small = (mock.patch.object(kinds, "SMALL_ROWS", 20), mock.patch.object(merging, "SMALL_ROWS", 20))
    with small[0], small[1], create(path) as index:
        for group, count in (("a", 60), ("b", 30), ("c", 25)):
            documents = [document(f"{group}{i}", 1) for i in range(count)]
            with index.writer() as writer:
                writer.add(documents, *vectors(documents))
                if group == "c":
                    writer.delete(["a3", "b4"])
                writer.commit()
        with index.writer() as writer:
            writer.maintain(Policy(kind="SQ8", target_recall=0.1))
        info = index.info()
        assert (info.segments, info.kind, info.deleted > 0) == (3, "SQ8", True)
        state = contents(index)
    Index.open(path).close()  # the last reader folds the write-ahead log in
    return state


def main() -> None:
    """Live the life, saying when each step starts and ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kill-at", type=int, default=0, help="kill this process at the n-th operation")
    parser.add_argument("--kill-at-point", default="", help="kill this process at this named point: NAME:OCCURRENCE")
    parser.add_argument("--limit-file-size", type=int, default=0, help="bytes a file may have, as on a full disk")
    parser.add_argument("--everything", action="store_true", help="make the index of a golden fixture instead")
    options = parser.parse_args()
    if options.everything:
        everything(options.directory)
        return
    if options.limit_file_size:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.limit_file_size, options.limit_file_size))
    name, _, occurrence = options.kill_at_point.partition(":")
    count = seen = 0

    def observe(operation: str, path: Path, size: int) -> int:
        nonlocal count, seen
        count += 1
        seen += operation == f"point:{name}"
        if count == options.kill_at or (name and operation == f"point:{name}" and seen == int(occurrence)):
            os.kill(os.getpid(), signal.SIGKILL)
        return size

    with fs.observed(observe):
        index = create(options.directory)
        for step in steps():
            print("start", step.name, flush=True)
            step.apply(index)
            print("done", step.name, flush=True)
    print("operations", count, flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
