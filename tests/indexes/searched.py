"""A small index and its answers, kept so that later versions open it and answer the same.

    python searched.py FILE.zip

Uses public names only, so that an older version can run it. `test_formats.py` compares.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from llm2comp_indexes import Index, IndexedDocument

DIMENSION, TOKENS = 16, 2
SENTENCE = "cells divide by mitosis while rivers carry stones Größe naïve running 机器 学习 Москва x-ray 1.10"
WORDS = SENTENCE.split()
SETTINGS = {"language": "english", "chunk": 8, "prompt": "text: "}
ENCODER = {"name": "tiny-random", "fingerprint": "f" * 16}
QUERIES = ("dividing cells", "naive grosse", "机器 river", "Москва stones stones", "no such word as this")
CONDITIONS = (None, "year >= 2015 and not tag in ('odd')", "author.name like 'a%'", "_id = 'doc-7'")


def document(number: int, version: int = 0) -> IndexedDocument:
    """A document that depends on its number and version only; every third is cut into chunks."""
    rng = np.random.default_rng([number, version])
    text = " ".join(rng.choice(WORDS, 12))
    spans = ((0, 20), (20, 45), (45, len(text))) if number % 3 == 0 else ()
    metadata: dict[str, Any] = {"year": 2000 + number % 25, "tag": ["odd" if number % 2 else "even", str(number)]}
    metadata["author"] = {"name": "abc"[number % 3]}
    return IndexedDocument(f"doc-{number}", text, f"Title {number}", metadata, spans, f"hash-{number}-{version}")


def encoded(documents: list[IndexedDocument]) -> tuple[np.ndarray, np.ndarray]:
    """Random vectors (rows, d) and memory vectors (rows, k, d) of documents."""
    rows = [np.random.default_rng([len(doc.text), i, *doc.text.encode()]) for doc in documents for i in range(doc.rows)]
    memory = np.array([rng.standard_normal((TOKENS, DIMENSION)) for rng in rows], dtype=np.float32)
    return memory.mean(axis=1), memory


def make(path: Path) -> None:
    """Two commits, the second of which replaces and deletes documents; with chunks and memory vectors."""
    with Index.create(path, dimension=DIMENSION, encoder=ENCODER, settings=SETTINGS, memory_tokens=TOKENS) as index:
        for numbers, version in ((range(60), 0), (range(50, 70), 1)):
            documents = [document(number, version) for number in numbers]
            with index.writer() as writer:
                writer.add(documents, *encoded(documents))
                writer.delete(["doc-1", "doc-3"] if version else [])
                writer.commit()


def answers(index: Index) -> dict[str, Any]:
    """Everything that a reader can be asked, as JSON has it."""
    vectors = np.random.default_rng(7).standard_normal((len(QUERIES), DIMENSION)).astype(np.float32)
    ids = list(index.ids())
    found: dict[str, Any] = {"ids": ids, "hashes": index.hashes(ids), "encoder": index.encoder}
    found["settings"] = index.settings
    found["documents"] = [[doc.text, doc.title, doc.metadata, doc.spans] for doc in index.get(ids)]
    for where in CONDITIONS:
        dense = index.search(vectors, 10, where=where)
        lexical = [index.search_lexical(query, 10, where=where) for query in QUERIES]
        found[f"dense {where}"] = [[[*hit] for hit in hits] for hits in dense]
        found[f"lexical {where}"] = [[[*hit] for hit in hits] for hits in lexical]
    found["memory"] = index.memory(ids[:5]).tolist()
    found["vectors"] = index.vectors(ids[:5]).tolist()
    return json.loads(json.dumps(found))


def main() -> None:
    """Write the index and its answers into one archive."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "searched.index")
        make(path)
        with Index.open(path) as index:
            told = answers(index)
        with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path.rglob("*")):
                if file.name != "store.db-shm" and not file.name.startswith(".tantivy-"):
                    archive.write(file, file.relative_to(folder))
            archive.writestr("answers.json", json.dumps(told, ensure_ascii=False))


if __name__ == "__main__":
    main()
