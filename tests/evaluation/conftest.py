"""A small folder of evaluation data in every form, and encoders that are right, collapsed or scripted."""

from __future__ import annotations

import gzip
import hashlib
import json
import random

import numpy as np
import pytest

TOPICS = {
    "cells": ["cell", "membrane", "mitosis", "chromosome", "nucleus", "enzyme", "protein"],
    "stars": ["star", "hydrogen", "galaxy", "telescope", "orbit", "nebula", "photon"],
    "bread": ["flour", "yeast", "dough", "oven", "crust", "wheat", "baker"],
    "ships": ["harbour", "sail", "anchor", "captain", "deck", "cargo", "keel"],
}


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def sentence(topic, rng):
    return " ".join(rng.sample(TOPICS[topic], 4)) + f" {rng.randrange(10_000)}"


@pytest.fixture(scope="session")
def jsonl():
    """Writes rows as JSON lines, gzip-compressed if the name says so."""
    return write_jsonl


@pytest.fixture
def data(tmp_path):
    """One dataset of every form, separable by words."""
    return make_data(tmp_path / "data")


@pytest.fixture(scope="module")
def shared_data(tmp_path_factory):
    """The same, for tests that only read it."""
    return make_data(tmp_path_factory.mktemp("shared") / "data")


def make_data(root):
    rng = random.Random(7)
    topics = list(TOPICS)
    docs = [
        {"_id": f"d{index}", "title": topics[index % 4], "text": sentence(topics[index % 4], rng)}
        for index in range(40)
    ]
    write_jsonl(root / "retrieval" / "library" / "corpus.jsonl.gz", docs)
    queries = [{"_id": f"q{index}", "text": " ".join(TOPICS[topics[index]][:3])} for index in range(4)]
    write_jsonl(root / "retrieval" / "library" / "queries.jsonl.gz", [*queries, {"_id": "unjudged", "text": "what"}])
    lines = ["query-id\tcorpus-id\tscore"]
    lines += [f"q{index}\td{document}\t1" for index in range(4) for document in range(index, 40, 4)]
    (root / "retrieval" / "library" / "qrels.tsv").write_text("\n".join(lines) + "\n")
    write_jsonl(root / "retrieval" / "library" / "train_queries.jsonl", [{"_id": "t0", "text": "yeast dough"}])
    (root / "retrieval" / "library" / "train_qrels.tsv").write_text("query-id\tcorpus-id\tscore\nt0\td2\t2\n")

    def pairs(count, key):
        rows = []
        for index in range(count):
            a, b = rng.choice(topics), rng.choice(topics)
            gold = (5.0 if a == b else 0.5) if key == "score" else int(a == b)
            if index < 2:  # both labels, whatever the draw
                b = a if index == 0 else next(topic for topic in topics if topic != a)
                gold = (5.0, 0.5)[index] if key == "score" else 1 - index
            rows.append({"sentence1": sentence(a, rng), "sentence2": sentence(b, rng), key: gold})
        return rows

    write_jsonl(root / "sts" / "likeness" / "test.jsonl", pairs(30, "score"))
    write_jsonl(root / "sts" / "likeness" / "dev.jsonl", pairs(20, "score"))
    write_jsonl(root / "pair" / "paraphrase" / "test.jsonl", pairs(30, "label"))

    def labelled(count):
        return [{"text": sentence(topics[index % 4], rng), "label": topics[index % 4]} for index in range(count)]

    write_jsonl(root / "classification" / "subject" / "train.jsonl.gz", labelled(80))
    write_jsonl(root / "classification" / "subject" / "test.jsonl.gz", labelled(40))
    write_jsonl(root / "clustering" / "groups.jsonl", labelled(60))
    write_jsonl(
        root / "reranking" / "answers_test.jsonl",
        [
            {
                "query": " ".join(TOPICS[topic][:4]),
                "positive": [sentence(topic, rng)],
                "negative": [sentence(other, rng) for other in topics if other != topic],
            }
            for topic in topics
        ],
    )
    return root


class CollapsedEncoder:
    """Every text at one point."""

    name = "collapsed"
    fingerprint = hashlib.sha256(b"collapsed").hexdigest()
    dimension = 8

    def __init__(self):
        self.prompts = {}

    def encode(self, texts, *, prompt=None, show_progress=False):
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        vectors[:, 0] = 1
        return vectors

    def encode_stream(self, texts, *, prompt=None):
        yield self.encode(list(texts))


@pytest.fixture
def collapsed():
    return CollapsedEncoder()


@pytest.fixture
def embed_with():
    """An ``embed`` function for tasks that looks vectors up by text and records the roles asked for."""

    def make(table):
        def embed(texts, role="query"):
            embed.roles.append(role)
            return np.stack([np.asarray(table[text], dtype=np.float32) for text in texts])

        embed.roles = []
        return embed

    return make
