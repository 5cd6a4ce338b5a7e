"""Clustering: ours beside BERTopic with its defaults, on the same embeddings in the same run.

    python tests/benchmarks/bench_cluster.py quality [--encoder default] [--sets bbc_news ...] [--vectors DIR]
    python tests/benchmarks/bench_cluster.py speed   [--documents 20000] [--rounds 3]
    python tests/benchmarks/bench_cluster.py choose  [--sets ...]
    python tests/benchmarks/bench_cluster.py update  [--sets ...] [--vectors DIR]

``quality``: on each labelled corpus V-measure of mini-batch k-means with k = number of labels (as MTEB scores
clustering: batches of 500, mean of 10 seeds), then ARI, NMI, share of outliers and number of topics of ``llm2comp
cluster`` and of BERTopic, neither of which is told anything about the corpus. Outliers count as one cluster.
``--vectors`` takes ready ``NAME.npy`` files instead of an encoder's embeddings.

``speed``: 20,000 ready vectors in an index, a cold process, until the finished folder with the map; beside it a cold
process that imports BERTopic, fits it on the same vectors and texts, and transforms them. Wall time, CPU time and peak
memory, in turns.

``choose``: what the defaults were chosen by, on every second document only: reductions, HDBSCAN's selections, smallest
clusters and outlier policies, one changed at a time.

``update``: which topics appear when documents come by an update, a fifth of the labels being left out of the fit, and
when only known labels come.

BERTopic is no dependency: ``pip install -c constraints.txt bertopic``.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))
SETS = ("twentynewsgroups_subjects", "biorxiv_titles", "biomedical_titles", "bbc_news", "agnews_test", "searchsnippets")
SEEDS = 10

BERTOPIC = """
import json, sys, numpy
from bertopic import BERTopic
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
vectors = numpy.load(sys.argv[2])
model = BERTopic()
model.fit(texts, vectors)
model.transform(texts, vectors)
"""


def read(data: Path, name: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a corpus."""
    with gzip.open(data / "eval" / "clustering" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [f"{row.get('title', '')} {row['text']}".strip() for row in rows], [str(row["label"]) for row in rows]


def embed(texts: list[str], name: str) -> np.ndarray:
    from llm2comp_apps.clustering.embeddings_cache import embed as cached
    from llm2comp_apps.encoder import load_encoder

    encoder = load_encoder(name)
    return cached(texts, encoder, prompt=encoder.prompts.get("document", ""))


def kmeans_v_measure(vectors: np.ndarray, labels: list[str]) -> float:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    count, scores = len(set(labels)), []
    for seed in range(SEEDS):
        found = MiniBatchKMeans(count, batch_size=500, n_init="auto", random_state=seed).fit(vectors).labels_
        scores.append(v_measure_score(labels, found))
    return float(np.mean(scores))


def score(labels: list[str], found: np.ndarray) -> dict[str, float]:
    from llm2comp_apps.clustering.algorithms.quality import agreement

    scores = agreement(labels, found.astype(np.int32))
    return {
        "ari": scores["ari"],
        "nmi": scores["nmi"],
        "outliers": float((found < 0).mean()),
        "topics": int(found.max(initial=-1)) + 1,
    }


def cluster_as_the_command(texts: list[str], vectors: np.ndarray) -> np.ndarray:
    """Labels of ``llm2comp cluster``: topics whose keywords are alike are joined, too."""
    from llm2comp_apps.clustering import ClusterSettings, Source, cluster
    from llm2comp_apps.corpus import Document

    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    return cluster(Source(documents, vectors, {}), ClusterSettings()).labels


def choose(chosen: argparse.Namespace) -> None:
    from llm2comp_apps.clustering import TopicClusterer
    from llm2comp_apps.clustering.algorithms.methods import default_cluster_size

    print("| corpus | changed | ARI | NMI | outliers | topics | CPU s |\n|---|---|" + "---:|" * 5)
    for name in chosen.sets:
        texts, labels = read(chosen.data, name)
        vectors = np.load(chosen.vectors / f"{name}.npy") if chosen.vectors else embed(texts, chosen.encoder)
        vectors, labels = vectors[1::2], labels[1::2]
        size = default_cluster_size(len(vectors))
        for change in (
            {},
            *({"reduce": reduce} for reduce in ("umap", "pca")),
            *({"cluster_selection": selection} for selection in ("leaf", "eom")),
            *({"min_cluster_size": size * factor // 2} for factor in (1, 4)),
            *({"outliers": policy} for policy in ("keep", "nearest")),
        ):
            start = time.process_time()
            s = score(labels, TopicClusterer(**change).fit(vectors).labels_)
            seconds = time.process_time() - start
            what = ", ".join(f"{key} {value}" for key, value in change.items()) or "nothing"
            cells = f"{s['ari']:.3f} | {s['nmi']:.3f} | {s['outliers']:.1%} | {s['topics']} | {seconds:.1f}"
            print(f"| {name} | {what} | {cells} |", flush=True)


def quality(chosen: argparse.Namespace) -> None:
    from bertopic import BERTopic

    print(f"bertopic {importlib.metadata.version('bertopic')}; encoder {chosen.vectors or chosen.encoder}\n")
    columns = ("ARI", "NMI", "outliers", "topics")
    print(
        "| corpus | labels | k-means V | "
        + " | ".join(f"{who} {c}" for who in ("ours", "BERTopic") for c in columns)
        + " |"
    )
    print("|---|" + "---:|" * 10)
    for name in chosen.sets:
        texts, labels = read(chosen.data, name)
        vectors = np.load(chosen.vectors / f"{name}.npy") if chosen.vectors else embed(texts, chosen.encoder)
        cells = [str(len(set(labels))), f"{kmeans_v_measure(vectors, labels):.3f}"]
        theirs = np.array(BERTopic().fit_transform(texts, vectors)[0])
        for found in (cluster_as_the_command(texts, vectors), theirs):
            s = score(labels, found)
            cells += [f"{s['ari']:.3f}", f"{s['nmi']:.3f}", f"{s['outliers']:.1%}", str(s["topics"])]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def update(chosen: argparse.Namespace) -> None:
    """Topics that appear when a fifth of the labels is left out of a fit and comes by an update; and when none is."""
    from llm2comp_apps.clustering import TopicModel
    from llm2comp_apps.corpus import Document

    print("| corpus | left out | came | topics | new topics: documents, share left out | without a topic | s |")
    print("|---|---|---:|---:|---|---:|---:|")
    for name in chosen.sets:
        texts, labels = read(chosen.data, name)
        vectors = np.load(chosen.vectors / f"{name}.npy") if chosen.vectors else embed(texts, chosen.encoder)
        documents = [Document(str(i), text) for i, text in enumerate(texts)]
        kinds = sorted(set(labels))
        for seed in (1, 2):
            random = np.random.default_rng(seed)
            left = set(random.choice(kinds, max(1, len(kinds) // 5), replace=False).tolist())
            held = np.isin(labels, list(left))
            known = random.permutation(np.flatnonzero(~held))
            fitted, same = np.split(known, [int(0.7 * len(known))])
            for come in (np.concatenate([same, np.flatnonzero(held)]), same):
                model = TopicModel.fit([documents[i] for i in fitted], vectors=vectors[fitted])
                topics, start = len(model.topics), time.perf_counter()
                report = model.update([documents[i] for i in come], vectors=vectors[come])
                seconds = time.perf_counter() - start
                of_left = held[[int(document.id) for document in model.documents]]
                shares = [f"{n}, {of_left[model.labels == id_].mean():.0%}" for id_, n in report.new_topics.items()]
                cells = (name, ", ".join(sorted(left)), len(come), topics, "; ".join(shares) or "none")
                row = " | ".join(map(str, (*cells, f"{report.outliers / len(come):.1%}", f"{seconds:.1f}")))
                print(f"| {row} |", flush=True)


MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}
print(json.dumps(figures))
"""


def measured(command: list[str]) -> dict[str, float]:
    """Run a cold process: wall and CPU seconds, peak memory in MiB.

    A small process in between starts it: a peak is inherited from the process that forks, and this one holds vectors.
    """
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def speed(chosen: argparse.Namespace) -> None:
    from llm2comp_indexes import Index, IndexedDocument

    texts, _ = read(chosen.data, "biomedical_titles")
    vectors = np.load(chosen.vectors / "biomedical_titles.npy") if chosen.vectors else embed(texts, chosen.encoder)
    texts, vectors = texts[: chosen.documents], vectors[: chosen.documents]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        index = folder / "docs.index"
        made_by = {"name": "ready", "fingerprint": "ready"}
        with Index.create(index, dimension=vectors.shape[1], encoder=made_by) as new, new.writer() as writer:
            writer.add([IndexedDocument(str(i), text) for i, text in enumerate(texts)], vectors)
            writer.commit()
        np.save(folder / "vectors.npy", vectors)
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
        (folder / "theirs.py").write_text(BERTOPIC, "utf-8")
        program = Path(sys.executable).with_name("llm2comp")
        ours = [str(program), "cluster", str(index), "-o", str(folder / "out.clusters")]
        theirs = [sys.executable, *map(str, (folder / "theirs.py", folder / "texts.jsonl", folder / "vectors.npy"))]
        print(f"{len(texts)} documents, {vectors.shape[1]} dimensions, load {os.getloadavg()[0]:.1f}\n")
        print("| | wall s | CPU s | peak MiB |\n|---|---:|---:|---:|", flush=True)
        for _ in range(chosen.rounds):
            for who, command in (("ours", ours), ("BERTopic", theirs)):
                m = measured(command)
                print(f"| {who} | {m['wall']:.1f} | {m['cpu']:.1f} | {m['peak']:.0f} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("quality", "speed", "choose", "update"))
    options.add_argument("--encoder", default="default")
    options.add_argument("--vectors", type=Path)
    options.add_argument("--sets", nargs="+", default=SETS)
    options.add_argument("--documents", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()
    {"quality": quality, "speed": speed, "choose": choose, "update": update}[chosen.what](chosen)


if __name__ == "__main__":
    main()
