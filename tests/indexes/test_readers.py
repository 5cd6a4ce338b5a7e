"""One writer and four readers, in processes or threads, against an oracle stamped with what was committed."""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexedDocument, IndexStoreError
from llm2comp_indexes.lexical import LexicalReader

NAMES = [f"d{i}" for i in range(40)]


def vectors(stamp: int) -> np.ndarray:
    """What all documents look like after the commit with this stamp."""
    return np.random.default_rng(stamp).standard_normal((len(NAMES), 8)).astype(np.float32)


def write(index: Index, stamp: int) -> None:
    """Commit all documents anew; every fifth time everything is merged."""
    with index.writer() as writer:
        text = f"text stamp{stamp}"
        documents = [IndexedDocument(name, text, metadata={"stamp": stamp}) for name in NAMES]
        writer.add(documents[:20], vectors(stamp)[:20])
        writer.add(documents[20:], vectors(stamp)[20:])
        writer.commit()
        if stamp % 5 == 4:
            writer.compact()


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
        write(index, stamp)
        processes = [context.Process(target=read, args=(str(path), ready, stop, results)) for _ in range(readers)]
        for process in processes:
            process.start()
        end, waiting = time.monotonic() + seconds, readers
        while time.monotonic() < end or stamp < 5 or waiting:
            stamp += 1
            write(index, stamp)
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


def in_threads(actions: list[Callable[[], None]], step: Callable[[int], bool]) -> None:
    """Run each action again and again in a thread of its own while ``step(0)``, ``step(1)``, ... ask for more.

    Raises:
        ExceptionGroup: the errors of the threads; the first ends it all.
    """
    stop, errors = threading.Event(), []

    def again(action: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                action()
        except Exception as error:  # noqa: BLE001  raised below, in the thread that runs the test
            errors.append(error)

    threads = [threading.Thread(target=again, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        number = 0
        while step(number) and not errors:
            number += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise ExceptionGroup(f"{len(errors)} readers failed", errors)


def test_threads_share_a_reader_that_moves_on(fast_path, faults):
    """Four threads search one `Index` while it writes, compacts and refreshes itself."""
    seen: list[list[int]] = [[], [], [], []]
    with Index.create(fast_path / "index", dimension=8, encoder={"name": "test", "fingerprint": "0"}) as index:
        write(index, 0)

        def look(stamps: list[int]) -> None:
            with index.pinned() as generation:
                before = generation.generation
                stamps.append(check(generation))
                assert generation.generation == before
            assert stamps == sorted(stamps)
            check_one_call(index)

        def step(number: int) -> bool:
            write(index, number + 1)
            return number < 15 or min(map(len, seen)) < 5

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            in_threads([lambda stamps=stamps: look(stamps) for stamps in seen], step)
        assert check(index) >= 15
        assert index.verify() == []
        with index.writer():
            pass  # removes what the readers still held
        assert len(list((index.path / "segments").iterdir())) == 1
    assert all(len(set(stamps)) > 2 for stamps in seen)
    count = faults(READS)
    count.tried = count.survived = sum(map(len, seen))


def check_one_call(index: Index) -> None:
    """A single call answers from one generation, whichever that is."""
    assert len(list(index.ids())) == len(NAMES)
    assert len({document.metadata["stamp"] for document in index.get(NAMES)}) == 1
    (hits,) = index.search(vectors(3)[0], 100)
    assert {hit.id for hit in hits} == set(NAMES)
    assert {hit.id for hit in index.search_lexical("text", 100)} == set(NAMES)
    assert index.vectors(NAMES).shape == (len(NAMES), 8)
    assert index.info().documents == len(NAMES)


def test_what_another_process_commits_is_seen_by_threads(fast_path):
    """`refresh` in one thread beside searches in others, the writer being an `Index` of its own."""
    path = fast_path / "index"
    stamps: list[int] = []
    with (
        Index.create(path, dimension=8, encoder={"name": "test", "fingerprint": "0"}) as writing,
        Index.open(path) as index,
    ):
        write(writing, 0)
        index.refresh()

        def look() -> None:
            with index.pinned() as generation:
                check(generation)

        def refresh() -> None:
            if index.refresh():
                stamps.append(index.generation)
            time.sleep(0.001)

        def step(number: int) -> bool:
            write(writing, number + 1)
            return number < 29

        in_threads([look, look, look, refresh, refresh], step)
        index.refresh()
        assert check(index) == 30
    assert len(set(stamps)) == len(stamps) > 2
    assert stamps == sorted(stamps)


def test_a_generation_closes_when_its_last_reader_leaves(make_index, fill):
    index = make_index()
    fill(index, 3)
    iterator = index.ids()
    assert next(iterator) == "d0"
    pinned = index.pinned()
    old = index._snapshot
    fill(index, 3, start=3)
    assert (len(index), len(pinned)) == (6, 3)
    assert list(iterator) == ["d1", "d2"]
    assert [hit.id for hit in pinned.search_lexical("number", 9)] == ["d0", "d1", "d2"]
    assert old._pins
    pinned.close()
    pinned.close()
    assert not old._pins
    assert len(list(index.ids())) == 6


def test_a_closed_index_says_so(make_index, fill):
    index = make_index()
    fill(index, 3)
    pinned = index.pinned()
    index.close()
    index.close()
    for call in (lambda: index.search(np.ones(8), 1), lambda: list(index.ids()), index.refresh, index.pinned):
        with pytest.raises(IndexStoreError, match="has been closed"):
            call()
    assert len(pinned.get(["d0"])) == 1
    pinned.close()


def test_what_is_opened_at_first_use_is_opened_once(make_index, fill, monkeypatch):
    index = make_index()
    fill(index, 100)
    opened: list[object] = []
    original = LexicalReader.__init__

    def slowly(self, *arguments, **options) -> None:
        opened.append(self)
        time.sleep(0.05)
        original(self, *arguments, **options)

    monkeypatch.setattr(LexicalReader, "__init__", slowly)
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        assert len(index.search_lexical("number", 100)) == 100

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


def test_what_has_not_changed_stays_open_across_commits(make_index, fill, monkeypatch):
    """FAISS indexes and vectors of a segment are opened once, however many commits come after it."""
    from llm2comp_indexes import lexical
    from llm2comp_indexes.core.snapshot import Segment
    from llm2comp_indexes.dense.ann import AnnIndex

    index = make_index(settings={"kind": "hnsw"})
    fill(index, 2100)
    index.compact()
    assert index.info().kind != "flat"
    query = np.random.default_rng(0).standard_normal(8)
    before = index.search(query, 5)
    index.search_lexical("number", 5)
    opened, loaded = [], []
    make, load = Segment.__init__, AnnIndex.load.__func__
    monkeypatch.setattr(Segment, "__init__", lambda self, *rest: (opened.append(rest), make(self, *rest))[1])
    monkeypatch.setattr(AnnIndex, "load", classmethod(lambda cls, *rest: (loaded.append(rest), load(cls, *rest))[1]))
    compared: list[Path] = []
    difference = lexical.difference
    monkeypatch.setattr(lexical, "difference", lambda path, file: (compared.append(path), difference(path, file))[1])
    with Index.open(index.path) as other:
        other.search(query, 5)
        other.search_lexical("number", 5)
        assert (len(opened), len(loaded)) == (1, 1)
        files = set(compared)
        for step in range(3):
            with index.writer() as writer:
                writer.add([IndexedDocument(f"new{step}", "something new")], np.ones((1, 8), np.float32) * (step + 1))
                writer.commit()
            opened.clear()
            loaded.clear()
            compared.clear()
            assert other.refresh()
            assert len(loaded) == 0
            again = {path.name for path in compared} & {path.name for path in files}
            assert again == {"meta.json", ".managed.json"}, "the others are those of the documents that came"
            assert len(other.search_lexical("new", 10)) == step + 1
            assert len(opened) <= 1  # the segment that came
            assert other.search(np.ones(8), step + 1)[0][0].id.startswith("new")
            assert {hit.id for hit in other.search(query, 9)[0]} >= {hit.id for hit in before[0]}
        with index.writer() as writer:
            writer.delete([before[0][0].id])
            writer.commit()
        assert other.refresh()
        assert before[0][0].id not in {hit.id for hit in other.search(query, 5)[0]}
        index.compact()
        assert other.refresh()
        assert [hit.id for hit in other.search(query, 4)[0]] == [hit.id for hit in before[0][1:]]


def test_the_write_ahead_log_stays_small_beside_readers_that_move_on(make_index, monkeypatch):
    """Each opens a generation before it lets go of the last one, so the log was never without a reader in it."""
    monkeypatch.setattr("llm2comp_indexes.core.snapshot._LARGEST_LOG", 100_000)
    index = make_index()
    write(index, 0)
    log, sizes = index.path / "store.db-wal", []
    with Index.open(index.path) as first, Index.open(index.path) as second:
        for stamp in range(1, 41):
            with first.pinned() as pinned:
                write(index, stamp)
                assert (first.refresh(), second.refresh()) == (True, True)
                assert [check(each) for each in (pinned, first, second)] == [stamp - 1, stamp, stamp]
            assert (first.refresh(), second.refresh()) == (False, False), "as a server asks now and then"
            sizes.append(log.stat().st_size)
            assert [check(each) for each in (first, second)] == [stamp, stamp]
    assert max(sizes[20:]) <= 3 * max(sizes[:5]), sizes
    assert index.verify() == []
