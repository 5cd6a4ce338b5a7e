"""The index against plain FAISS, filters, small adds, and a million rows.

    python tests/benchmarks/bench_index.py kinds    [--rows 100000]
    python tests/benchmarks/bench_index.py filters  [--rows 100000]
    python tests/benchmarks/bench_index.py adds     [--rows 1000]
    python tests/benchmarks/bench_index.py million  [--rows 1000000]

The vectors are real-shaped: latent semantic analysis (TF-IDF, truncated SVD) of sentences from the shared data gives
real documents of real neighbourhoods at the width of the default encoder, 576, in minutes; ``--vectors FILE.npy``
takes others, such as encoder embeddings. ``million`` draws synthetic rows around them. Queries are rows that are held
out of the index. Whatever is compared is measured in turns in one run, and the best of the rounds counts: on a busy
machine the ratios mean more than the figures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from llm2comp_indexes import Index, IndexedDocument, Policy
from llm2comp_indexes.faiss_module import import_faiss

WIDTH = 576
QUERIES = 300
K = 10
ENCODER = {"name": "bench", "fingerprint": "0"}
DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def say(*parts: object) -> None:
    """Print a line of results at once."""
    print(*parts, flush=True)


def sentences(wanted: int) -> Iterator[str]:
    """Different sentences of at least 40 characters out of the shared data's JSON lines."""
    seen = 0
    for path in sorted(DATA.rglob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                for value in json.loads(line).values():
                    for sentence in re.split(r"(?<=[.!?])\s+", value if isinstance(value, str) else ""):
                        if len(sentence) >= 40:
                            yield sentence
                            seen += 1
                            if seen == wanted:
                                return


def real_shaped(rows: int) -> np.ndarray:
    """(rows, 576) unit vectors by latent semantic analysis, kept in the temporary directory for the next run."""
    cache = Path(tempfile.gettempdir()) / f"llm2comp-bench-{rows}.npy"
    if cache.exists():
        return np.load(cache)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = list(dict.fromkeys(sentences(3 * rows)))
    if len(texts) < rows:
        sys.exit(f"only {len(texts)} sentences under {DATA}; set LLM2COMP_DATA or take fewer --rows")
    texts = [texts[i] for i in np.random.default_rng(0).choice(len(texts), rows, replace=False)]
    counts = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.2, dtype=np.float32).fit_transform(texts)
    latent = TruncatedSVD(WIDTH, n_iter=2, random_state=0).fit_transform(counts).astype(np.float32)
    norms = np.linalg.norm(latent, axis=1, keepdims=True)
    latent[norms[:, 0] < 1e-3] += 0.01  # sentences of rare words only
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    np.save(cache, latent)
    return latent


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


def best_of(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each action at its best, all of them in turns."""
    seconds = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Recall@10 of (q, 10) rows."""
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


def rows_of(index: Index, queries: np.ndarray, **options: object) -> np.ndarray:
    """(q, 10) row numbers of the hits."""
    return np.array([[int(hit.id.split("-")[1]) for hit in hits] for hits in index.search(queries, K, **options)])


def raw_search(kind: str, detail: dict, rows: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Plain FAISS with the same factory string, search parameter and refinement; and the seconds of its build."""
    faiss = import_faiss()
    start = time.perf_counter()
    if kind == "flat":
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        return lambda queries: flat.search(queries, K)[1], time.perf_counter() - start
    base = faiss.index_factory(rows.shape[1], detail["factory"], faiss.METRIC_INNER_PRODUCT)
    lists = getattr(faiss.downcast_index(base), "nlist", 0)
    sample = np.random.default_rng(0).choice(len(rows), min(len(rows), max(20_000, 50 * lists)), replace=False)
    base.train(rows[np.sort(sample)])
    base.add(rows)
    store = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    store.add(rows)
    refined = faiss.IndexRefine(base, store)
    value, factory = detail["value"], detail["factory"]
    inner = None
    if detail["parameter"] == "efSearch":
        inner = faiss.SearchParametersHNSW(efSearch=value)
    elif detail["parameter"] == "nprobe":
        make = faiss.IVFRaBitQSearchParameters if "RaBitQ" in factory else faiss.SearchParametersIVF
        inner = make(nprobe=value)
    if factory.startswith("HR"):
        inner = faiss.SearchParametersPreTransform(index_params=inner)
    parameters = faiss.IndexRefineSearchParameters(k_factor=detail["widening"], base_index_params=inner)
    seconds = time.perf_counter() - start
    # The objects that FAISS only points to live as long as the function.
    return lambda queries, kept=(base, store, inner): refined.search(queries, K, params=parameters)[1], seconds


def bench_kinds(vectors: np.ndarray, folder: Path, kinds: list[str], rounds: int) -> None:
    """Each kind beside plain FAISS with the same parameters."""
    queries, rows = vectors[:QUERIES], np.ascontiguousarray(vectors[QUERIES:])
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :K]
    index = build(folder / "kinds.index", rows)
    say(
        "| kind | recall@10 ours / raw | batch of 100: queries/s ours / raw (ratio) "
        "| single: ms ours / raw (ratio) | build s |"
    )
    say("|---|---|---|---|---|")
    for kind in kinds:
        start = time.perf_counter()
        index.compact(Policy(kind))
        built = time.perf_counter() - start
        detail = index._snapshot.manifest.anns[0].detail if index._snapshot.manifest.anns else {"factory": "flat"}
        raw, raw_built = raw_search(kind if detail["factory"] != "flat" else "flat", detail, rows)
        for query in queries[:20]:  # the first searches check every block that they touch
            index.search(query, K)
        batch, single = queries[:100], [queries[i : i + 1] for i in range(100, 150)]
        times = best_of(
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
        setting = f"{detail.get('parameter')}={detail.get('value')} x{detail.get('widening')}" if kind != "flat" else ""
        say(
            f"| {kind} {detail['factory']} {setting} "
            f"| {recall(rows_of(index, queries), truth):.3f} / {recall(raw(queries), truth):.3f} "
            f"| {ours:.0f} / {theirs:.0f} ({ours / theirs:.2f}) | {one:.2f} / {their_one:.2f} ({one / their_one:.2f}) "
            f"| {built:.0f} ({raw_built:.0f} raw) |"
        )


def each(action: Callable[[np.ndarray], object], queries: Iterable[np.ndarray]) -> None:
    """Search one query after another."""
    for query in queries:
        action(query)


def bench_filters(vectors: np.ndarray, folder: Path, rounds: int) -> None:
    """Filtered search against brute force over what the filter keeps."""
    queries, rows = vectors[:100], np.ascontiguousarray(vectors[QUERIES:])
    index = build(folder / "filters.index", rows)
    kept = rows.astype(np.float16).astype(np.float32)
    say("| kind | kept | recall@10 | first search with the filter, ms | single, ms | batch of 100, queries/s |")
    say("|---|---|---|---|---|---|")
    for kind in ("flat", "rabitq"):
        index.compact(Policy(kind))
        for permille in (500, 100, 10, 1):
            where = f"bucket < {permille}"
            chosen = np.flatnonzero(np.arange(len(rows)) % 1000 < permille)
            truth = chosen[np.argsort(-(queries @ kept[chosen].T), axis=1)[:, :K]]
            index.close()
            index = Index.open(index.path)
            index.search(queries[:1], K)
            start = time.perf_counter()
            index.search(queries[:1], K, where=where)
            first = time.perf_counter() - start
            times = best_of(
                {
                    "single": partial(each, partial(index.search, k=K, where=where), queries[:20]),
                    "batch": partial(index.search, queries, K, where=where),
                },
                rounds,
            )
            found = recall(rows_of(index, queries, where=where), truth)
            say(
                f"| {kind} | {permille / 10} % | {found:.4f} | {1000 * first:.0f} | {50 * times['single']:.2f} "
                f"| {100 / times['batch']:.0f} |"
            )


def bench_adds(vectors: np.ndarray, folder: Path, count: int, rounds: int) -> None:
    """One commit for each of many documents, against one commit for all of them."""
    rows, queries = vectors[:count], vectors[count : count + 50]
    documents = [IndexedDocument(f"document-{n}", f"text {n}") for n in range(count)]
    at_once = Index.create(folder / "once.index", dimension=WIDTH, encoder=ENCODER)
    with at_once.writer() as writer:
        writer.add(documents, rows)
        writer.commit()
    one_by_one = Index.create(folder / "single.index", dimension=WIDTH, encoder=ENCODER)
    start = time.perf_counter()
    for position, document in enumerate(documents):
        with one_by_one.writer() as writer:
            writer.add([document], rows[position : position + 1])
            writer.commit()
    each = (time.perf_counter() - start) / count
    dense = best_of(
        {
            "once": lambda: [at_once.search(query, K) for query in queries],
            "single": lambda: [one_by_one.search(query, K) for query in queries],
        },
        rounds,
    )
    words = best_of(
        {
            "once": lambda: [at_once.search_lexical(f"text {n}", K) for n in range(50)],
            "single": lambda: [one_by_one.search_lexical(f"text {n}", K) for n in range(50)],
        },
        rounds,
    )

    def reopen(index: Index) -> None:
        with Index.open(index.path) as reader:
            reader.search(queries[:1], K)

    opening = best_of({"once": lambda: reopen(at_once), "single": lambda: reopen(one_by_one)}, rounds)
    say(f"{count} single adds: {1000 * each:.0f} ms each, {one_by_one.info().segments} segments at the end")
    for name, times in (("dense search", dense), ("lexical search", words), ("open and search", opening)):
        once, single = 20 * times["once"], 20 * times["single"]
        if name == "open and search":
            once, single = 50 * once, 50 * single
        say(f"{name}: {once:.2f} ms after one build, {single:.2f} ms after {count} adds, ratio {single / once:.2f}")


def peak() -> float:
    """Largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_million(vectors: np.ndarray, folder: Path, rows: int, kind: str) -> None:
    """Synthetic rows around real-shaped ones: build, size on disk, memory while building and while searching."""
    rng = np.random.default_rng(0)
    index = Index.create(
        folder / "million.index",
        dimension=WIDTH,
        encoder=ENCODER,
        settings={"kind": "flat"},
    )
    before = peak()
    start = time.perf_counter()
    with index.writer() as writer:
        for first in range(0, rows, 8192):
            size = min(8192, rows - first)
            pairs = vectors[rng.integers(len(vectors), size=(2, size))]
            share = rng.random((size, 1), dtype=np.float32)
            block = (
                share * pairs[0] + (1 - share) * pairs[1] + 0.01 * rng.standard_normal((size, WIDTH), dtype=np.float32)
            )
            writer.add(
                [
                    IndexedDocument(f"document-{n}", f"text number {n}", metadata={"bucket": n % 1000})
                    for n in range(first, first + size)
                ],
                block,
            )
            if first % (8192 * 8) == 0:
                writer.commit()
        writer.commit()
    say(
        f"{rows} rows added in {time.perf_counter() - start:.0f} s; "
        f"peak memory {peak():.0f} MiB, {before:.0f} of it before"
    )
    start = time.perf_counter()
    index.compact(Policy(kind))
    info = index.info()
    say(
        f"compacted in {time.perf_counter() - start:.0f} s: {info.kind}, recall@10 {info.recall}, "
        f"{info.queries_per_second or 0:.0f} queries/s, {info.bytes / 2**20:.0f} MiB on disk, "
        f"peak memory {peak():.0f} MiB"
    )
    start = time.perf_counter()
    damage = index.verify()
    say(f"verified in {time.perf_counter() - start:.0f} s: {damage or 'clean'}")
    path = index.path
    index.close()
    if os.fork():  # searching is measured in a process that built nothing
        os.wait()
        return
    os.execv(sys.executable, [sys.executable, __file__, "search", "--index", str(path), "--rows", str(len(vectors))])


def bench_search(path: Path, vectors: np.ndarray, rounds: int) -> None:
    """Cold open, first search, and steady searching, with the memory of this process."""
    queries = vectors[:100].copy()
    before = peak()
    start = time.perf_counter()
    index = Index.open(path)
    opened = time.perf_counter() - start
    index.search(queries[:1], K)
    first = time.perf_counter() - start
    times = best_of(
        {
            "single": lambda: [index.search(query, K) for query in queries[:20]],
            "batch": lambda: index.search(queries, K),
        },
        rounds,
    )
    say(
        f"opened in {1000 * opened:.0f} ms, first hits after {1000 * first:.0f} ms; "
        f"single {50 * times['single']:.2f} ms, "
        f"batches {100 / times['batch']:.0f} queries/s; peak memory {peak():.0f} MiB, {before:.0f} of it before opening"
    )
    for where in ("bucket < 500", "bucket < 10", "bucket = 1"):
        start = time.perf_counter()
        index.search(queries[:1], K, where=where)
        first = time.perf_counter() - start
        again = best_of({"again": lambda where=where: index.search(queries[:1], K, where=where)}, rounds)["again"]
        say(f"where {where}: first {1000 * first:.0f} ms, again {1000 * again:.1f} ms")
    start = time.perf_counter()
    hits = index.search_lexical("text number 4711", K)
    first = time.perf_counter() - start
    again = best_of({"again": lambda: index.search_lexical("text number 4711", K)}, rounds)["again"]
    say(f"lexical: {hits[0].id} first after {1000 * first:.0f} ms, again {1000 * again:.1f} ms; peak {peak():.0f} MiB")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kinds", "filters", "adds", "million", "search"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--vectors", type=Path, help="a .npy matrix instead of the real-shaped vectors")
    parser.add_argument("--kinds", nargs="+", default=["flat", "rabitq", "ivf", "sq8", "hnsw"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--index", type=Path)
    options = parser.parse_args()
    defaults = {"kinds": 100_000, "filters": 100_000, "adds": 1_000, "million": 1_000_000, "search": 20_000}
    rows = options.rows or defaults[options.what]
    needed = {"kinds": rows + QUERIES, "filters": rows + QUERIES, "adds": rows + 50, "million": 20_000, "search": rows}
    vectors = np.load(options.vectors) if options.vectors else real_shaped(needed[options.what])
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "kinds":
            bench_kinds(vectors, Path(folder), options.kinds, options.rounds)
        elif options.what == "filters":
            bench_filters(vectors, Path(folder), options.rounds)
        elif options.what == "adds":
            bench_adds(vectors, Path(folder), rows, options.rounds)
        elif options.what == "million":
            bench_million(vectors, Path(folder), rows, options.kinds[0] if len(options.kinds) == 1 else "auto")
        else:
            bench_search(options.index, vectors, options.rounds)


if __name__ == "__main__":
    main()
