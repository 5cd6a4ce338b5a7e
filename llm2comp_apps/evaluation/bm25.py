"""BM25 as a row of the retrieval table, through tantivy in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import version

__all__ = ["Bm25Ranker"]

_WORD = re.compile(r"\w+")


class Bm25Ranker:
    """Tantivy's BM25 (k1 1.2, b 0.75); a query is the disjunction of its words.

    Args:
        stem: stem English words. Without it, words are only lower-cased: the plain BM25 that papers compare with.
    """

    def __init__(self, *, stem: bool = False) -> None:
        self.name = "bm25:stem" if stem else "bm25"
        self._tokenizer = "en_stem" if stem else "default"
        # Tantivy's analysis decides the ranking, so its version belongs to the fingerprint.
        self.fingerprint = hashlib.sha256(f"bm25 {self._tokenizer} tantivy {version('tantivy')}".encode()).hexdigest()

    def search(
        self,
        corpus: Mapping[str, str],
        queries: Mapping[str, str],
        top_k: int,
        titles: Mapping[str, str] | None = None,  # noqa: ARG002 - Ranker's; the plain BM25 of papers knows no fields
    ) -> dict[str, dict[str, float]]:
        """Index ``corpus`` in memory and rank it for each query, titles as any text; see :class:`Ranker`."""
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("row", stored=True)
        schema.add_text_field("text", tokenizer_name=self._tokenizer)
        index = tantivy.Index(schema.build())
        writer = index.writer()
        identifiers = list(corpus)
        for row, identifier in enumerate(identifiers):
            writer.add_document(tantivy.Document(row=row, text=corpus[identifier]))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        searcher = index.searcher()
        run: dict[str, dict[str, float]] = {}
        for query_id, text in queries.items():
            words = " ".join(_WORD.findall(text.lower()))
            hits = searcher.search(index.parse_query(words, ["text"]), limit=top_k).hits if words else []
            run[query_id] = {identifiers[searcher.doc(address)["row"][0]]: float(score) for score, address in hits}
        return run
