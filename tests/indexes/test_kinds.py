"""Kinds of index: what is found, how it is chosen, and what happens when it cannot be trusted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from llm2comp_indexes import (
    DamageWarning,
    Index,
    IndexedDocument,
    IndexWriteError,
    InputError,
    KindError,
    Policy,
    import_vectors,
)
from llm2comp_indexes.dense.kinds import AUTO_ROWS, plans
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.merging import SMALL_ROWS

ROWS = 3000
WIDTH = 48


def clustered(rows: int, seed: int = 0) -> np.ndarray:
    """Vectors in clusters within a subspace, as embeddings lie; random ones have no neighbourhoods to find."""
    rng = np.random.default_rng(0)
    centres, basis = rng.standard_normal((40, 12)), np.linalg.qr(rng.standard_normal((WIDTH, 12)))[0]
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(40, size=rows)] + 0.7 * rng.standard_normal((rows, 12))
    return (points @ basis.T + 0.05 * rng.standard_normal((rows, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(ROWS)


@pytest.fixture
def index(make_index, vectors):
    made = make_index(dimension=WIDTH, settings={"kind": "flat"})
    documents = [IndexedDocument(f"d{i}", f"text {i}", metadata={"n": i}) for i in range(ROWS)]
    with made.writer() as writer:
        writer.add(documents, vectors)
        writer.commit()
    return made


def ids(found) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in found]


def recall(index: Index, queries: np.ndarray, k: int = 10, **options: object) -> float:
    found, exact = index.search(queries, k, **options), index.search(queries, k, exact=True, **options)
    assert [len(hits) for hits in found] == [len(hits) for hits in exact]
    both = [({hit.id for hit in a}, {hit.id for hit in b}) for a, b in zip(found, exact, strict=True)]
    return float(np.mean([len(a & b) / len(b) for a, b in both]))


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "sq8", "rabitq", "IVF32,SQ4", "PCA24,IVF32,SQ8", "PQ24x4fs", "HNSW16"])
def test_a_kind_reaches_its_target_with_exact_scores(index, kind):
    index.compact(Policy(kind=kind, target_recall=0.9))
    info = index.info()
    assert info.kind != "flat"
    assert info.recall >= 0.9
    assert info.queries_per_second > 0
    assert info.settings["kind"] == kind
    queries = clustered(200, seed=5)
    assert recall(index, queries) >= 0.87
    exact = {hit.id: hit.score for hits in index.search(queries[:1], 50, exact=True) for hit in hits}
    for hit in index.search(queries[:1], 10)[0]:
        assert hit.score == pytest.approx(exact[hit.id], abs=1e-6)
    with Index.open(index.path) as reopened:
        assert reopened.search(queries, 10) == index.search(queries, 10)
        assert reopened.verify() == []


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "rabitq", "PQ24x4fs"])
def test_every_query_gets_k_documents_whatever_was_deleted(index, kind):
    index.compact(Policy(kind=kind, target_recall=0.5))
    with index.writer() as writer:
        writer.delete([f"d{i}" for i in range(ROWS) if i % 3])
        writer.commit()
    found = index.search(clustered(20, seed=5), 40)
    assert all(len(hits) == 40 for hits in found)
    assert all(int(hit.id[1:]) % 3 == 0 for hits in found for hit in hits)
    assert [len(hits) for hits in index.search(clustered(2, seed=5), ROWS)] == [len(index)] * 2


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("kept", [1500, 300, 30, 3, 0])
def test_filtered_search_is_exact_where_few_rows_are_kept(index, kind, kept):
    index.compact(Policy(kind=kind, target_recall=0.5))
    queries = clustered(20, seed=5)
    assert [len(hits) for hits in index.search(queries, 10, where=f"n < {kept}")] == [min(10, kept)] * 20
    if kept:
        assert recall(index, queries, where=f"n < {kept}") == 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "rabitq", "PQ24x4fs"])
def test_wide_filters_go_through_the_faiss_index(index, kind, monkeypatch):
    monkeypatch.setattr("llm2comp_indexes.dense.search._FEW_ROWS", 10)
    index.compact(Policy(kind=kind, target_recall=0.9))
    queries = clustered(100, seed=5)
    assert recall(index, queries, where="n < 1500") >= 0.85
    assert all(int(hit.id[1:]) < 1500 for hits in index.search(queries, 10, where="n < 1500") for hit in hits)


@pytest.mark.parametrize("kind", ["ivf", "rabitq", "hnsw", "sq8"])
def test_a_query_alone_finds_what_it_finds_among_others(make_index, kind):
    """One query takes a path of its own: the same scores, nothing deleted, equal vectors in the order of their rows."""
    vectors = np.repeat(clustered(ROWS // 3, seed=1), 3, axis=0)
    index = make_index(dimension=WIDTH, settings={"kind": "flat"})
    with index.writer() as writer:
        writer.add([IndexedDocument(f"d{i}", "text") for i in range(ROWS)], vectors)
        writer.delete([f"d{i}" for i in range(1, 300, 3)])
        writer.commit()
    index.compact(Policy(kind=kind, target_recall=0.5))
    with index.writer() as writer:
        writer.delete([f"d{i}" for i in range(302, 600, 3)])
        writer.commit()
    queries = vectors[:600:20]
    for k in (1, 10, 50):
        together = index.search(queries, k)
        alone = [index.search(query, k)[0] for query in queries]
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose([hit.score for hit in one], [hit.score for hit in other], atol=1e-6)
            rows = [int(hit.id.removeprefix("d")) for hit in one]
            assert len(set(rows)) == k
            assert not any(row % 3 == (1 if row < 300 else 2) for row in rows if row < 600)
            assert rows == [row for _, row in sorted((-hit.score, row) for hit, row in zip(one, rows, strict=True))]


def test_chunks_of_one_document_do_not_crowd_out_others(make_index):
    index = make_index(dimension=WIDTH, settings={"kind": "flat"})
    documents, chunks = [], 6
    for i in range(500):
        spans = tuple((j, j + 1) for j in range(chunks))
        documents.append(IndexedDocument(f"d{i}", "text of a document", spans=spans))
    centres = clustered(500)
    rows = np.repeat(centres, chunks, axis=0) + 0.01 * np.random.default_rng(0).standard_normal((500 * chunks, WIDTH))
    with index.writer() as writer:
        writer.add(documents, rows)
        writer.commit()
    index.compact(Policy(kind="ivf", target_recall=0.9))
    assert index.info().kind != "flat"
    (hits,) = index.search(centres[7], 10)
    assert len({hit.id for hit in hits}) == 10
    assert hits[0].id == "d7"
    assert recall(index, centres[:100]) >= 0.9


def test_a_document_is_found_by_its_best_chunk_whichever_one_was_proposed(make_index):
    index = make_index(dimension=WIDTH, settings={"kind": "PQ8x4", "target_recall": 0.1})
    chunks, chance = 6, np.random.default_rng(0)  # vectors by chance, in which little is found
    spans = tuple((j, j + 1) for j in range(chunks))
    documents = [IndexedDocument(f"d{i}", "text of a document", spans=spans) for i in range(500)]
    for part in (slice(0, 400), slice(400, 500)):
        with index.writer() as writer:
            writer.add(documents[part], chance.standard_normal((len(documents[part]) * chunks, WIDTH)))
            writer.commit()
    with index.writer() as writer:
        writer.delete([f"d{i}" for i in range(0, 500, 7)])
        writer.commit()
    assert index.info().kind == "PQ8x4"
    queries = chance.standard_normal((200, WIDTH)).astype(np.float32)
    for each, every in zip(index.search(queries, 10), index.search(queries, 500, exact=True), strict=True):
        best = {hit.id: (hit.span, pytest.approx(hit.score, abs=1e-6)) for hit in every}
        assert {hit.id: (hit.span, hit.score) for hit in each} == {hit.id: best[hit.id] for hit in each}
        assert [hit.score for hit in each] == sorted((hit.score for hit in each), reverse=True)


def test_new_segments_get_the_kind_of_the_index(make_index, vectors):
    index = make_index(dimension=WIDTH, settings={"kind": "ivf", "target_recall": 0.9})
    with index.writer() as writer:
        writer.add([IndexedDocument(f"d{i}", "t") for i in range(ROWS)], vectors)
        writer.commit()
    assert index.info().kind.startswith("IVF")
    with index.writer() as writer:
        writer.add([IndexedDocument("late", "t")], vectors[:1] * 2)
        writer.commit()
    assert {hit.id for hit in index.search(vectors[0], 2)[0]} == {"d0", "late"}
    assert index.info().segments == 2


def test_a_kind_that_misses_its_target_is_refused_and_nothing_changes(index):
    index.compact(Policy(kind="ivf", target_recall=0.9))
    before = index.info()
    with pytest.raises(KindError, match=r"kind PQ1x4 is refused \(recall 0\.\d+ where 0.999 is wanted\)"):
        index.compact(Policy(kind="PQ1x4", target_recall=0.999))
    after = index.info()
    assert (after.kind, after.settings) == (before.kind, before.settings)
    assert recall(index, clustered(20, seed=5)) > 0.8


def test_after_a_refusal_several_segments_have_the_kind_that_they_had(make_index, vectors):
    index = make_index(dimension=WIDTH, settings={"kind": "sq8", "target_recall": 0.9})
    for part in range(2):
        with index.writer() as writer:
            writer.add([IndexedDocument(f"{part} {i}", "t") for i in range(ROWS)], vectors)
            writer.commit()
    with pytest.raises(KindError, match="PQ1x4 is refused"):
        index.compact(Policy(kind="PQ1x4", target_recall=0.999))
    index.refresh()
    assert (index.info().segments, index.info().kind, index.info().reason) == (1, "SQ8", None)


def test_what_faiss_can_make_but_not_fill_is_refused(index):
    with pytest.raises(KindError, match="kind 'NSG8': "):
        index.compact(Policy(kind="NSG8"))


def test_where_a_document_has_many_chunks_all_rows_are_compared(make_index, vectors, monkeypatch):
    index = make_index(dimension=WIDTH, settings={"kind": "sq8", "target_recall": 0.9})
    long = IndexedDocument("long", "x" * 500, spans=tuple((i, i + 1) for i in range(500)))
    with index.writer() as writer:
        writer.add([long, *(IndexedDocument(f"d{i}", "t") for i in range(ROWS - 500))], vectors)
        writer.commit()
    assert index.info().kind == "SQ8"
    monkeypatch.setattr("llm2comp_indexes.dense.ann.AnnIndex.candidates", None)
    assert ids(index.search(vectors[:3], 10)) == ids(index.search(vectors[:3], 10, exact=True))


def test_a_kind_of_the_settings_that_misses_its_target_is_told_once_and_is_no_error(make_index, vectors):
    index = make_index(dimension=WIDTH, settings={"kind": "PQ1x4", "target_recall": 0.999})
    documents = [IndexedDocument(f"d{i}", "t") for i in range(ROWS)]
    with index.writer() as writer:
        writer.add(documents, vectors)
        writer.commit()
    assert re.fullmatch(r"kind PQ1x4 is refused \(recall 0\.\d+ where 0.999 is wanted\)", str(writer.refusal))
    assert len(index) == ROWS
    assert (index.info().kind, index.info().reason) == ("flat", writer.refusal)
    with index.writer() as writer:
        writer.delete(["d0"])
        writer.commit()
    assert writer.refusal is None
    assert recall(index, vectors[:5]) == 1


def test_a_refused_kind_is_settled_for_all_segments_at_once(make_index, vectors, monkeypatch):
    index = make_index(dimension=WIDTH, settings={"kind": "flat"})
    for part in range(3):
        with index.writer() as writer:
            writer.add([IndexedDocument(f"{part} {i}", "t") for i in range(ROWS)], vectors)
            writer.commit()
    assert index.info().segments == 3
    ask(index, "PQ1x4", monkeypatch)
    with index.writer() as writer:
        pass
    assert "is refused" in str(writer.refusal)
    with index.writer() as writer:
        pass
    assert writer.refusal is None


def ask(index: Index, kind: str, monkeypatch) -> None:
    """Put a kind into the settings without trying it."""
    with monkeypatch.context() as patch, index.writer() as writer:
        patch.setattr("llm2comp_indexes.core.writer.Writer._is_served", lambda *_: True)
        writer.maintain(Policy(kind=kind, target_recall=0.999))


def test_small_segments_say_why_they_are_flat(make_index, fill):
    index = make_index(dimension=WIDTH)
    assert index.info().reason is None
    fill(index, 300)
    assert index.info().reason is None
    index.compact(Policy(kind="hnsw"))
    assert index.info().reason == "300 vectors are too few for hnsw (from 2,049)"
    fill(index, 1900, start=300)
    assert index.info().reason == (
        "1,900 vectors are too few for hnsw (from 2,049) in the largest of 2 segments; compact merges them"
    )


def test_the_device_of_a_writer_trains_its_indexes(make_index, vectors, monkeypatch):
    devices = []

    def build(index, segment, policy, device):
        devices.append(device)

    monkeypatch.setattr("llm2comp_indexes.core.writer.build_ann", build)
    monkeypatch.setattr("llm2comp_indexes.dense.gpu.gpu_count", lambda: 1)
    index = make_index(dimension=WIDTH, settings={"kind": "ivf"})
    documents = [IndexedDocument(f"d{i}", "t") for i in range(ROWS)]
    with index.writer("cuda") as writer:
        writer.add(documents, vectors)
        writer.commit()
    assert import_vectors(make_index("b", WIDTH, settings={"kind": "ivf"}), documents, vectors, device="cuda") == ROWS
    assert devices == ["cuda", "cuda"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nonsense", "FAISS cannot make it"),
        ("IVF16,PQ24,RFlat", "leave IDMap and refinement out"),
        ("IDMap,SQ8", "leave IDMap and refinement out"),
        ("PCA8,IDMap,Flat", "leave IDMap and refinement out"),
        ("NSG16", "take HNSW"),
        ("PCA8,NSG16,SQ8", "take HNSW"),
        ("IVF128_NSG8,SQ8", "take HNSW"),
        ("PQ7", "cannot"),
    ],
)
def test_kinds_that_faiss_cannot_make_are_refused_in_one_line(index, kind, message):
    with pytest.raises(KindError, match=message) as error:
        index.compact(Policy(kind=kind))
    assert "\n" not in str(error.value)
    assert index.info().kind == "flat"
    assert recall(index, clustered(3)) == 1


def test_memory_limits_are_kept(index):
    with pytest.raises(KindError, match="max_ram allows"):
        index.compact(Policy(kind="hnsw", max_ram=50_000))
    with pytest.raises(KindError, match="max_ram allows"):
        index.compact(Policy(kind="IVF16,Flat", target_recall=0.5, max_ram=50_000))
    index.compact(Policy(kind="rabitq", target_recall=0.5, max_ram=200_000))
    assert "RaBitQ" in index.info().kind


@pytest.mark.parametrize("options", [{"kind": ""}, {"target_recall": 0}, {"target_recall": 1.1}, {"max_ram": 0}])
def test_policies_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        Policy(**options)


def test_what_auto_chooses():
    auto = Policy(kind="auto")
    assert plans(auto, AUTO_ROWS - 1, 576) == []
    assert plans(auto, 1_000_000, 576) == ["RR576,IVF4096,RaBitQ", "IVF4096,SQ8", "SQ8"]
    assert plans(Policy(kind="auto", max_ram=10**8), 1_000_000, 576) == ["RR576,IVF4096,RaBitQ"]
    assert plans(Policy(kind="auto", max_ram=10**6), 1_000_000, 576) == []
    assert plans(Policy(kind="hnsw"), SMALL_ROWS, 576) == []
    assert plans(Policy(kind="IVF7,Flat"), 10_000, 576) == ["IVF7,Flat"]


def test_auto_keeps_what_is_faster_than_a_scan(index, monkeypatch):
    monkeypatch.setattr("llm2comp_indexes.dense.kinds.AUTO_ROWS", 2500)
    monkeypatch.setattr("llm2comp_indexes.dense.build.exact_speed", lambda *_: 0.0)
    index.compact(Policy(kind="auto", target_recall=0.8))
    assert "RaBitQ" in index.info().kind
    monkeypatch.setattr("llm2comp_indexes.dense.build.exact_speed", lambda *_: float("inf"))
    index.compact(Policy(kind="auto", target_recall=0.81))
    assert index.info().kind == "flat"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_doubtful_faiss_file_is_not_used_and_is_repaired(index, damage):
    index.compact(Policy(kind="ivf", target_recall=0.9))
    queries = clustered(10, seed=5)
    exact = index.search(queries, 10, exact=True)
    (path,) = index.path.glob("ann/*/ann.faiss")
    content = path.read_bytes()
    path.unlink()
    if damage != "remove":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        path.write_bytes(flipped if damage == "flip" else content[:-3])
    with Index.open(index.path) as reader:
        with pytest.warns(DamageWarning, match=r"ann\.faiss: .*searching exactly"):
            assert reader.search(queries, 10) == exact
        assert [entry.file for entry in reader.verify()] == [str(path.relative_to(index.path))]
    with index.writer() as writer:
        writer.delete(["d0"])
        writer.commit()
    assert index.verify() == []
    assert index.info().kind.startswith("IVF")


def test_a_full_disk_while_faiss_writes_surfaces(index):
    def fail(operation, path, size):
        if operation == "write" and path.name == "ann.faiss":
            raise OSError(28, "No space left on device", str(path))
        return size

    with fs.observed(fail), pytest.raises(IndexWriteError, match="No space left on device"):
        index.compact(Policy(kind="ivf", target_recall=0.5))
    index.refresh()
    assert index.verify() == []
    assert recall(index, clustered(5)) == 1


def test_many_small_adds_leave_few_segments(make_index):
    index = make_index(dimension=4)
    rng = np.random.default_rng(0)
    with index.writer() as writer:
        for i in range(60):
            writer.add([IndexedDocument(f"d{i}", f"text {i}")], rng.standard_normal((1, 4)))
            writer.commit()
    assert (len(index), index.info().segments) == (60, 1)


def test_single_queries_of_a_large_segment_are_answered_from_memory(index, monkeypatch):
    monkeypatch.setattr("llm2comp_indexes.dense.search._RESIDENT_ROWS", 100)
    queries = clustered(5, seed=5)
    expected = index.search(queries, 10)
    filtered = index.search(queries, 10, where="n < 700")
    with Index.open(index.path) as reader:
        for _ in range(3):
            assert ids([reader.search(query, 10)[0] for query in queries]) == ids(expected)
            assert ids([reader.search(query, 10, where="n < 700")[0] for query in queries]) == ids(filtered)
        assert [part.__dict__.keys() >= {"_resident"} for part in reader._snapshot.dense._parts] == [True]
        assert len(reader.search(queries[0], ROWS)[0]) == ROWS
