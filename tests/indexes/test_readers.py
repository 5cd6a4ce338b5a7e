"""One writer and four readers in processes of their own, against an oracle stamped with what was committed."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexedDocument

NAMES = [f"d{i}" for i in range(40)]


def vectors(stamp: int) -> np.ndarray:
    """What all documents look like after the commit with this stamp."""
    return np.random.default_rng(stamp).standard_normal((len(NAMES), 8)).astype(np.float32)


def check(index: Index) -> int:
    """One generation must agree with itself on every side; returns its stamp."""
    documents = index.get(list(index.ids()))
    stamps = {document.metadata["stamp"] for document in documents}
    assert len(stamps) == 1, stamps
    (stamp,) = stamps
    order = [int(document.id[1:]) for document in documents]
    assert sorted(order) == list(range(len(NAMES)))
    matrix = vectors(stamp)
    query = matrix[stamp % len(NAMES)]
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    (hits,) = index.search(query, 5)
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:5], atol=2e-3)
    assert {hit.id for hit in index.search_lexical(f"stamp{stamp}", 100)} == set(NAMES)
    (hits,) = index.search(query, 100, where=f"stamp = {stamp}")
    assert len(hits) == len(NAMES)
    return stamp


def read(path: str, ready: Semaphore, stop: Event, results: multiprocessing.Queue) -> None:
    """Look again and again: at one generation several times, then at the newest."""
    seen: list[int] = []
    try:
        with Index.open(path) as index:
            while not stop.is_set():
                stamp = check(index)
                if not seen:
                    ready.release()
                assert check(index) == stamp
                assert not seen or stamp >= seen[-1]
                seen.append(stamp)
                index.refresh()
        results.put((len(seen), len(set(seen))))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")
        raise


def live(path: Path, seconds: float, readers: int = 4) -> tuple[int, int]:
    """Write for some seconds while others read; returns commits and reads."""
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()
    stamp = 0
    with Index.create(path, dimension=8, encoder={"name": "test", "fingerprint": "0"}) as index:

        def commit() -> None:
            with index.writer() as writer:
                text = f"text stamp{stamp}"
                documents = [IndexedDocument(name, text, metadata={"stamp": stamp}) for name in NAMES]
                writer.add(documents[:20], vectors(stamp)[:20])
                writer.add(documents[20:], vectors(stamp)[20:])
                writer.commit()
                if stamp % 5 == 4:
                    writer.compact()

        commit()
        processes = [context.Process(target=read, args=(str(path), ready, stop, results)) for _ in range(readers)]
        for process in processes:
            process.start()
        end, waiting = time.monotonic() + seconds, readers
        while time.monotonic() < end or stamp < 5 or waiting:
            stamp += 1
            commit()
            waiting -= waiting > 0 and ready.acquire(block=False)
        stop.set()
        outcomes = [results.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
        assert all(isinstance(outcome, tuple) for outcome in outcomes), outcomes
        assert check(index) == stamp
        assert index.verify() == []
    return stamp, sum(reads for reads, _ in outcomes)


READS = "look at a generation while a writer goes on"


def test_readers_always_see_one_generation(fast_path, faults):
    commits, reads = live(fast_path / "index", seconds=2, readers=2)
    count = faults(READS)
    count.tried = count.survived = reads
    assert commits >= 5
    assert reads >= 2


@pytest.mark.torture
def test_four_readers_for_a_minute(fast_path, faults):
    commits, reads = live(fast_path / "index", seconds=60)
    count = faults(READS)
    count.tried = count.survived = reads
    count.note = f"four readers, {commits} commits in 60 s"
    assert reads > 100
