"""BM25 as a row of the retrieval table, through tantivy in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tantivy

__all__ = ["Bm25Ranker"]

_LONGEST_WORD = 40  # bytes, as in tantivy's own analysis of text


class Bm25Ranker:
    """Tantivy's BM25 (k1 1.2, b 0.75); a query is the disjunction of its words, each form of a word once.

    Args:
        stem: stem English words. Without it, words are only lower-cased: the plain BM25 that papers compare with.
    """

    def __init__(self, *, stem: bool = False) -> None:
        self.name = "bm25:stem" if stem else "bm25"
        self._stem = stem
        # Tantivy's analysis decides the ranking, so its version belongs to the fingerprint.
        self.fingerprint = hashlib.sha256(f"bm25 terms {stem} tantivy {version('tantivy')}".encode()).hexdigest()

    def search(
        self,
        corpus: Mapping[str, str],
        queries: Mapping[str, str],
        top_k: int,
        titles: Mapping[str, str] | None = None,  # noqa: ARG002 - Ranker's; the plain BM25 of papers knows no fields
    ) -> dict[str, dict[str, float]]:
        """Index ``corpus`` in memory and rank it for each query, titles as any text; see :class:`Ranker`."""
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_integer_field("row", stored=True)
        builder.add_text_field("text", tokenizer_name="words")
        schema, plain, analyzer = builder.build(), _analyzer(stem=False), _analyzer(stem=self._stem)
        index = tantivy.Index(schema)
        index.register_tokenizer("words", analyzer)
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
            # Not by tantivy's parser of queries, which would make a phrase of "cell_size".
            words = [word for form in dict.fromkeys(plain.analyze(text)) for word in analyzer.analyze(form)]
            terms = [tantivy.Query.term_query(schema, "text", word, "freq") for word in words]
            query = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
            hits = searcher.search(query, limit=top_k).hits if terms else []
            run[query_id] = {identifiers[searcher.doc(address)["row"][0]]: float(score) for score, address in hits}
        return run


def _analyzer(*, stem: bool) -> tantivy.TextAnalyzer:
    """What cuts texts into words: at everything that is neither letter nor digit."""
    import tantivy

    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    words = words.filter(tantivy.Filter.remove_long(_LONGEST_WORD)).filter(tantivy.Filter.lowercase())
    return (words.filter(tantivy.Filter.stemmer("english")) if stem else words).build()
