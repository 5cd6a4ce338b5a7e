"""Embeddings by content: a text that an encoder has seen is not encoded again, whichever file it comes in.

One SQLite file per encoder fingerprint and prompt, in ``embeddings/`` of the cache directory. Vectors are kept, and
always returned, in half precision, as an index keeps them: a first run, a second run and an index see the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
from llm2comp_apps.encoder.cache import cache_dir
from llm2comp_apps.encoder.embedding_store import EmbeddingStore
from llm2comp_apps.encoder.progress import EncodingMeter, ProgressCallback
from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["embed", "embeddings_file"]


def embeddings_file(encoder: TextEncoder, prompt: str) -> Path:
    """Where the embeddings of an encoder under a prompt are kept."""
    key = hashlib.sha256(f"{encoder.fingerprint}\n{prompt}".encode()).hexdigest()[:32]
    return cache_dir() / "embeddings" / f"{key}.sqlite"


def embed(
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    prompt: str = "",
    cache: bool = True,
    progress: ProgressCallback | None = None,
) -> FloatArray:
    """Embed texts, each distinct one once, taking from the cache what is there.

    What was encoded is stored as it comes, so that an interrupted run resumes where it stopped. A cache that cannot be
    read or written costs a warning and time, nothing else.

    Args:
        texts: n texts.
        encoder: any.
        prompt: put before each text.
        cache: read and write the cache.
        progress: told how many of the texts that were not in the cache are encoded.

    Returns:
        ``(n, d)`` float32, rounded to half precision.
    """
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    vectors = np.zeros((len(texts), encoder.dimension), dtype=np.float16)
    places: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    with closing(EmbeddingStore(embeddings_file(encoder, prompt) if cache else None, "<f2")) as store:
        missing = dict(places)
        for key, vector in store.get(list(places), encoder.dimension).items():
            vectors[missing.pop(key)] = vector
        waiting = iter(missing.items())
        wanted = [texts[where[0]] for where in missing.values()]
        for block in EncodingMeter(encoder, progress, texts=wanted).stream(wanted, prompt=prompt or None):
            rows = block.astype(np.float16)
            named = list(itertools.islice(waiting, len(rows)))
            for (_, where), row in zip(named, rows, strict=True):
                vectors[where] = row
            store.put([key for key, _ in named], rows)
    return vectors.astype(np.float32)
