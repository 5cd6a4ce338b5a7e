"""Vectors of the default encoder's width that lie as real ones do, for benchmarks of the index.

By latent semantic analysis (TF-IDF, truncated SVD) of sentences from the shared data: real texts with real
neighbourhoods, 100,000 of them in a minute. Their spectrum is flatter than an encoder's, which makes them harder to
approximate. Vectors of an encoder (``llm2comp encode``) are shaped best; where there are fewer of them than are wanted,
`Bootstrap` draws more that keep both the global spectrum and the local one.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from llm2comp_indexes.dense.faiss_module import import_faiss

WIDTH = 576
DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))
_NEIGHBOURS = 16


def sentences(wanted: int) -> Iterator[str]:
    """Sentences of at least 40 characters out of the shared data's JSON lines."""
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


def latent_semantic(rows: int) -> np.ndarray:
    """(rows, 576) unit vectors of sentences, kept in the temporary directory for the next run."""
    cache = Path(tempfile.gettempdir()) / f"llm2comp-bench-{rows}.npy"
    if cache.exists():
        return np.load(cache)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(sentences(3 * rows)))
    if len(texts) < rows:
        sys.exit(f"only {len(texts)} sentences under {DATA}; set LLM2COMP_DATA or take fewer --rows")
    texts = [texts[i] for i in rng.choice(len(texts), rows, replace=False)]
    counts = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.2, dtype=np.float32).fit_transform(texts)
    latent = TruncatedSVD(WIDTH, n_iter=2, random_state=0).fit_transform(counts).astype(np.float32)
    # Sentences of rare words only have next to no latent part; a little noise gives them a direction of their own.
    latent += 1e-4 * rng.standard_normal(latent.shape, dtype=np.float32)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    np.save(cache, latent)
    return latent


class Bootstrap:
    """Draws unit vectors around those of a sample (n, d): a smoothed bootstrap.

    Each is a random vector of the sample, moved by half the difference of two of its 16 nearest neighbours: a step
    whose covariance is the local one.
    """

    def __init__(self, sample: np.ndarray, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._sample = sample.astype(np.float32) / np.linalg.norm(sample, axis=1, keepdims=True)
        faiss = import_faiss()
        _, self._near = faiss.knn(self._sample, self._sample, _NEIGHBOURS + 1, metric=faiss.METRIC_INNER_PRODUCT)

    def draw(self, rows: int) -> np.ndarray:
        """(rows, d) float32."""
        picked = self._rng.integers(len(self._sample), size=rows)
        steps = self._rng.integers(1, _NEIGHBOURS + 1, size=(2, rows))
        one, other = self._near[picked, steps]
        drawn = self._sample[picked] + 0.5 * (self._sample[one] - self._sample[other])
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def real_shaped(rows: int, path: Path | None = None) -> np.ndarray:
    """(rows, d) unit vectors: those of a ``.npy`` file, resampled if it has fewer; or latent semantic ones."""
    if path is None:
        return latent_semantic(rows)
    given = np.load(path).astype(np.float32)
    given = given[np.random.default_rng(0).permutation(len(given))]
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    if len(given) >= rows:
        return given[:rows]
    drawn = np.concatenate([given, Bootstrap(given).draw(rows - len(given))])
    return drawn[np.random.default_rng(1).permutation(rows)]


def shape(vectors: np.ndarray) -> str:
    """The figures that say how hard vectors are to approximate."""
    sample = vectors[:: max(1, len(vectors) // 20_000)]
    spectrum = np.linalg.eigvalsh(np.cov(sample, rowvar=False))[::-1]
    spectrum = spectrum / spectrum.sum()
    return (
        f"{len(vectors)} x {vectors.shape[1]}; length of the mean {np.linalg.norm(sample.mean(axis=0)):.2f}, "
        f"participation ratio {1 / (spectrum**2).sum():.0f}, variance in 64 / 256 directions "
        f"{spectrum[:64].sum():.2f} / {spectrum[:256].sum():.2f}"
    )
