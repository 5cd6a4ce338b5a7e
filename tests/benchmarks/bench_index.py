"""The index beside plain FAISS, filters, and small adds; `bench_million.py` has what only size shows.

    python tests/benchmarks/bench_index.py kinds    [--rows 100000] [--vectors FILE.npy]
    python tests/benchmarks/bench_index.py filters  [--rows 100000] [--vectors FILE.npy]
    python tests/benchmarks/bench_index.py adds     [--rows 1000]

How the vectors are made is told in `real_shaped.py`. Queries are rows that are held out of the index. What is compared
is measured in turns in one run, on one thread; medians of CPU time are reported, which is the time that passes where
nothing else runs. Caches are shared all the same, so that ratios mean more than figures on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from llm2comp_indexes import Index, IndexedDocument, Policy
from llm2comp_indexes.dense.ann import insertion_order
from llm2comp_indexes.dense.faiss_module import import_faiss
from real_shaped import WIDTH, real_shaped, shape

QUERIES = 300
SINGLES = 25
K = 10
ENCODER = {"name": "bench", "fingerprint": "0"}


def say(*parts: object) -> None:
    """Print a line of results at once."""
    print(*parts, flush=True)


def build(path: Path, vectors: np.ndarray) -> Index:
    """An index over ``vectors`` with a little metadata, committed in slices as a build commits."""
    index = Index.create(path, dimension=vectors.shape[1], encoder=ENCODER, settings={"kind": "flat"})
    with index.writer() as writer:
        for start in range(0, len(vectors), 16_384):
            block = vectors[start : start + 16_384]
            numbers = range(start, start + len(block))
            writer.add(
                [IndexedDocument(f"document-{n}", f"text {n}", metadata={"n": n, "bucket": n % 1000}) for n in numbers],
                block,
            )
            writer.commit()
    return index


def medians(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each action, all of them in turns, there and back: each leaves its data in the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds):
        for name, action in list(actions.items())[:: -1 if turn % 2 else 1]:
            start = time.process_time()
            action()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def each(action: Callable[[np.ndarray], object], queries: Iterable[np.ndarray]) -> None:
    """Search one query after another."""
    for query in queries:
        action(query)


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Recall@10 of (q, 10) rows."""
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


def rows_of(index: Index, queries: np.ndarray, **options: object) -> np.ndarray:
    """(q, 10) row numbers of the hits."""
    return np.array([[int(hit.id.split("-")[1]) for hit in hits] for hits in index.search(queries, K, **options)])


def raw_search(index: Index, rows: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Plain FAISS over the same FAISS file, with the same search parameter and refinement; and the row of each number.

    Refinement is FAISS's own, over float16 vectors in memory. What is flat here is a float32 matrix there.
    """
    faiss = import_faiss()
    anns = index._snapshot.manifest.anns
    if not anns:
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        return lambda queries: flat.search(queries, K)[1], np.arange(len(rows))
    record, detail = anns[0], anns[0].detail
    base = faiss.read_index(str(index.path / record.directory / record.files[0].name))
    order = insertion_order(len(rows), np.array(detail["held_out"]))
    store = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    store.add(rows[order])
    refined = faiss.IndexRefine(base, store)
    inner = None
    if detail["parameter"] == "efSearch":
        inner = faiss.SearchParametersHNSW(efSearch=detail["value"])
    elif detail["parameter"] == "nprobe":
        make = faiss.IVFRaBitQSearchParameters if "RaBitQ" in detail["factory"] else faiss.SearchParametersIVF
        inner = make(nprobe=detail["value"])
    if isinstance(faiss.downcast_index(base), faiss.IndexPreTransform):
        inner = faiss.SearchParametersPreTransform(index_params=inner)
    parameters = faiss.IndexRefineSearchParameters(k_factor=detail["widening"], base_index_params=inner)
    # The objects that FAISS only points to live as long as the function.
    return lambda queries, kept=(base, store, inner): refined.search(queries, K, params=parameters)[1], order


def bench_kinds(vectors: np.ndarray, folder: Path, kinds: list[str], target: float, rounds: int) -> None:
    """Each kind beside plain FAISS with the same parameters."""
    queries, rows = vectors[:QUERIES], np.ascontiguousarray(vectors[QUERIES:])
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :K]
    index = build(folder / "kinds.index", rows)
    say(
        "| kind | recall@10 ours / raw | batch of 100: queries/s ours / raw (ratio) "
        "| single: ms ours / raw (ratio) | build, CPU s | FAISS file, MiB |\n|---|---|---|---|---|---|"
    )
    for kind in kinds:
        start = time.process_time()
        index.compact(Policy(kind=kind, target_recall=target))
        built = time.process_time() - start
        raw, order = raw_search(index, rows)
        for query in queries:  # the first searches check every block that they touch
            index.search(query, K)
        batch, single = queries[:100], [queries[i : i + 1] for i in range(100, QUERIES)]
        times = medians(
            {
                "ours": partial(index.search, batch, K),
                "raw": partial(raw, batch),
                "ours1": partial(each, partial(index.search, k=K), single),
                "raw1": partial(each, raw, single),
            },
            rounds,
        )
        ours, theirs = 100 / times["ours"], 100 / times["raw"]
        one, their_one = 1000 * times["ours1"] / len(single), 1000 * times["raw1"] / len(single)
        anns = index._snapshot.manifest.anns
        detail = anns[0].detail if anns else {"factory": "flat", "parameter": "", "value": "", "widening": ""}
        say(
            f"| {kind}: {detail['factory']} {detail['parameter'] or ''} {detail['value']} x{detail['widening']} "
            f"| {recall(rows_of(index, queries), truth):.3f} / {recall(order[raw(queries)], truth):.3f} "
            f"| {ours:.0f} / {theirs:.0f} ({ours / theirs:.2f}) | {one:.2f} / {their_one:.2f} ({one / their_one:.2f}) "
            f"| {built:.0f} | {sum(file.size for ann in anns for file in ann.files) / 2**20:.0f} |"
        )


def bench_filters(vectors: np.ndarray, folder: Path, kinds: list[str], target: float, rounds: int) -> None:
    """Filtered search against brute force over what the filter keeps; equal scores may come in any order."""
    queries, rows = vectors[:100], np.ascontiguousarray(vectors[QUERIES:])
    index = build(folder / "filters.index", rows)
    stored = index.vectors([f"document-{n}" for n in range(len(rows))])
    say("| kind | kept | recall@10 | first search with the filter, ms | single, ms | batch of 100, queries/s |")
    say("|---|---|---|---|---|---|")
    for kind in kinds:
        index.compact(Policy(kind=kind, target_recall=target))
        for permille in (500, 100, 10, 1):
            where = f"bucket < {permille}"
            chosen = np.flatnonzero(np.arange(len(rows)) % 1000 < permille)
            truth = -np.sort(-(queries @ stored[chosen].T), axis=1)[:, K - 1 : K]
            index.close()
            index = Index.open(index.path)
            index.search(queries, K)
            start = time.process_time()
            index.search(queries[:1], K, where=where)
            first = time.process_time() - start
            times = medians(
                {
                    "single": partial(each, partial(index.search, k=K, where=where), queries[:SINGLES]),
                    "batch": partial(index.search, queries, K, where=where),
                },
                rounds,
            )
            found = rows_of(index, queries, where=where)
            scores = np.einsum("qkd,qd->qk", stored[found], queries)
            good = float((scores >= truth - 1e-6).mean()) * float(np.isin(found, chosen).all())
            say(
                f"| {kind}: {index.info().kind} | {permille / 10} % | {good:.4f} | {1000 * first:.0f} "
                f"| {1000 * times['single'] / SINGLES:.2f} | {100 / times['batch']:.0f} |"
            )


def bench_adds(vectors: np.ndarray, folder: Path, count: int, rounds: int) -> None:
    """One commit for each of many documents, against one commit for all of them."""
    rows, queries = vectors[:count], vectors[count : count + SINGLES]
    documents = [IndexedDocument(f"document-{n}", f"text {n}") for n in range(count)]
    built = {
        name: Index.create(folder / f"{name}.index", dimension=WIDTH, encoder=ENCODER) for name in ("once", "single")
    }
    with built["once"].writer() as writer:
        writer.add(documents, rows)
        writer.commit()
    start = time.perf_counter()
    for position, document in enumerate(documents):
        with built["single"].writer() as writer:
            writer.add([document], rows[position : position + 1])
            writer.commit()
    seconds = time.perf_counter() - start
    segments = built["single"].info().segments
    say(f"{count} single adds: {1000 * seconds / count:.0f} ms each, {segments} segments at the end")

    def dense(index: Index) -> None:
        each(partial(index.search, k=K), queries)

    def lexical(index: Index) -> None:
        for number in range(SINGLES):
            index.search_lexical(f"text {number}", K)

    def cold(index: Index) -> None:
        for query in queries:
            with Index.open(index.path) as reader:
                reader.search(query, K)

    for name, search in (("dense search", dense), ("lexical search", lexical), ("open and search", cold)):
        times = medians({which: partial(search, index) for which, index in built.items()}, rounds)
        once, single = (1000 * times[which] / SINGLES for which in ("once", "single"))
        say(f"{name}: {once:.2f} ms after one build, {single:.2f} ms after {count} adds, ratio {single / once:.2f}")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kinds", "filters", "adds"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--vectors", type=Path, help="a .npy matrix, resampled if it has too few rows")
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to work [default: the temporary directory]")
    options = parser.parse_args()
    rows = options.rows or (1_000 if options.what == "adds" else 100_000)
    vectors = real_shaped(rows + QUERIES, options.vectors)
    import_faiss().omp_set_num_threads(1)
    say(shape(vectors))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, target = Path(name), options.target_recall
        if options.what == "kinds":
            kinds = options.kinds or ["flat", "rabitq", "ivf", "sq8", "hnsw"]
            bench_kinds(vectors, folder, kinds, target, options.rounds)
        elif options.what == "filters":
            bench_filters(vectors, folder, options.kinds or ["flat", "rabitq"], target, options.rounds)
        else:
            bench_adds(vectors, folder, rows, options.rounds)


if __name__ == "__main__":
    main()
