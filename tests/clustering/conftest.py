from __future__ import annotations

import numpy as np
import pytest

from llm2comp_apps.corpus import Document

# The words of a topic occur in no other one; the common words occur in all.
WORDS = {
    "space": "orbit rocket satellite launch telescope astronaut lunar shuttle",
    "bread": "dough yeast oven flour crust loaf kneading bakery",
    "chess": "pawn knight bishop checkmate opening gambit castling endgame",
    "ocean": "whale coral tide plankton reef current lagoon dolphin",
}
COMMON = ["people", "often", "write", "something", "about", "these", "things", "every", "year"]


@pytest.fixture(scope="session")
def blobs():
    """Makes unit vectors around random directions: ``(vectors, true labels)``; noise has label -1 and comes last."""

    def make(sizes=(60, 50, 40), dimension=24, spread=0.25, noise=0, seed=0):
        random = np.random.default_rng(seed)
        centers = random.standard_normal((len(sizes), dimension))
        truth = np.repeat(np.arange(len(sizes)), sizes)
        points = centers[truth] + spread * random.standard_normal((len(truth), dimension))
        points = np.vstack([points, random.standard_normal((noise, dimension))])
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points.astype(np.float32), np.append(truth, np.full(noise, -1))

    return make


@pytest.fixture(scope="session")
def documents():
    """Makes documents about the four topics in turn, ``label`` among their metadata."""

    def make(count=80, seed=0):
        random = np.random.default_rng(seed)
        made = []
        for number in range(count):
            topic = list(WORDS)[number % len(WORDS)]
            words = [*random.choice(WORDS[topic].split(), 8), *random.choice(COMMON, 4)]
            random.shuffle(words)
            made.append(Document(f"{topic}-{number}", " ".join(words), "", {"label": topic}, "made"))
        return made

    return make


@pytest.fixture(scope="session")
def source(documents, make_hash_encoder):
    """Makes documents with the vectors of an encoder that only counts words."""
    from llm2comp_apps.clustering import Source

    def make(count=80, seed=0):
        made, encoder = documents(count, seed), make_hash_encoder()
        record = {"name": encoder.name, "fingerprint": encoder.fingerprint, "source": "default"}
        return Source(made, encoder.encode([document.content for document in made]), record)

    return make
