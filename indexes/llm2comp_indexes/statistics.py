r"""BM25 with the statistics of several indexes, so that their scores can be compared.

A word is worth the more, the fewer documents have it, and a document counts the more, the shorter it is beside the
others. Both depend on all documents, also on those in other indexes. So each index is first asked for its counts, and
then searched with the sum of all. The scores are those that one index of all documents would give:

.. math:: s(d) = \sum_t c_t \, (k_1 + 1) \ln\left(1 + \frac{N - n_t + 0.5}{n_t + 0.5}\right)
          \frac{f_{t,d}}{f_{t,d} + k_1 (1 - b + b \, l_d / \bar l)}

with N documents, n_t of them with the term t, c_t times t in the query and f_{t,d} times in d, and lengths l in terms.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; the form of the
logarithm as in Lucene and tantivy.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tantivy

__all__ = ["BALLAST", "Balance", "LexicalStatistics", "ballast", "inverse_frequency"]

BALLAST: Final = 1 << 62
"""The number of documents that are none."""

_SAME_AVERAGE = 1e-7  # two average lengths that float32 can hardly tell apart
_PRIVATE = (".tantivy-writer.lock", ".tantivy-meta.lock", "meta.json", ".managed.json")

_LEAST_TOKENS = 20_000  # with the ballast; the more, the better does an average of whole numbers fit
_TRIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalStatistics:
    """What BM25 needs to know of all documents.

    Attributes:
        documents: how many; deleted ones count until their segment is merged.
        tokens: terms in all of them.
        frequencies: for each term of a query, in how many documents it is.
    """

    documents: int = 0
    tokens: int = 0
    frequencies: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def total(cls, parts: Iterable[LexicalStatistics]) -> LexicalStatistics:
        """Of several indexes together, for one query."""
        documents = tokens = 0
        frequencies: dict[str, int] = {}
        for part in parts:
            documents += part.documents
            tokens += part.tokens
            for term, count in part.frequencies.items():
                frequencies[term] = frequencies.get(term, 0) + count
        documents = max(documents, *frequencies.values(), 0)  # an index in which no word is left counts only the living
        return cls(documents=documents, tokens=tokens, frequencies=frequencies)

    @property
    def average(self) -> float:
        """Length of a document."""
        return self.tokens / self.documents if self.documents else 0.0


def inverse_frequency(documents: int, frequency: int) -> float:
    """What a term is worth; rounded where tantivy rounds, which shows for terms that nearly all documents have."""
    odds = np.float32(np.float32(documents - frequency) + np.float32(0.5)) / np.float32(frequency + 0.5)
    return float(np.float32(math.log(np.float32(1) + odds)))


def ballast(documents: int, average: float, wanted: float) -> list[int]:
    """Lengths of documents that bring the average length of some documents to another one.

    Args:
        documents: how many there are.
        average: their length.
        wanted: the average with the ballast.
    """
    tokens = documents * average
    least = max(1, math.ceil(tokens / wanted) - documents, math.ceil(_LEAST_TOKENS / wanted) - documents)

    def miss(count: int) -> float:
        """How far the terms of the ballast would be from a whole number."""
        missing = wanted * (documents + count) - tokens
        return abs(missing - round(missing)) / (documents + count)

    count = min(range(least, least + _TRIES), key=miss)
    missing = round(wanted * (documents + count) - tokens)
    return [missing // count + (number < missing % count) for number in range(count)]


class _Counted(NamedTuple):
    """What tantivy counts in what it searches: documents, and their average length."""

    documents: int
    average: float


class Balance:
    """A snapshot of tantivy that is searched by the statistics of several.

    Tantivy takes the statistics of what it searches and no others. What a term is worth can be mended by its weight in
    the query; the average length, by documents of other lengths beside the real ones, which are never returned.

    Args:
        folder: the snapshot.
        searcher: of it.
        leaf: makes the query of one term.
    """

    def __init__(self, folder: Path, searcher: tantivy.Searcher, leaf: Callable[[str], tantivy.Query]) -> None:
        self._folder, self._searcher, self._leaf = folder, searcher, leaf
        self._counted: _Counted | None = None
        self._building = threading.Lock()
        self._built: tuple[float, tantivy.Searcher, int, tempfile.TemporaryDirectory[str]] | None = None

    def statistics(self, terms: Iterable[str]) -> LexicalStatistics:
        """Those of the snapshot for the terms of a query."""
        frequencies = {term: self._searcher.doc_freq("body", term) for term in terms}
        counted = self._count(term for term, count in frequencies.items() if count)
        tokens = round(counted.documents * counted.average)
        return LexicalStatistics(documents=counted.documents, tokens=tokens, frequencies=frequencies)

    def weighed(
        self, terms: Mapping[str, float], statistics: LexicalStatistics
    ) -> tuple[tantivy.Searcher, dict[str, float]]:
        """What to search, and the weight of each term that is there, to get scores by the statistics of all.

        Args:
            terms: of the query, with how often each is in it.
            statistics: of all indexes for this query, this one among them.
        """
        known = [term for term in terms if self._searcher.doc_freq("body", term)]
        if not known or not self._count(known).average:
            return self._searcher, {}
        searcher, documents = self._balanced(statistics.average)
        weights = {}
        for term, count in terms.items():
            if frequency := searcher.doc_freq("body", term):
                worth = inverse_frequency(statistics.documents, statistics.frequencies[term])
                weights[term] = count * worth / inverse_frequency(documents, frequency)
        return searcher, weights

    def _count(self, terms: Iterable[str] = ()) -> _Counted:
        """What tantivy counts; it tells when it explains the score of a document, which must not be deleted.

        Args:
            terms: that documents have, to be looked for first; the documents may be deleted and not merged away.
        """
        if self._counted is None:
            counted = _Counted(self._searcher.num_docs, 0.0)  # where no word is left
            for term in itertools.chain(terms, self._living()):
                if hits := self._searcher.search(self._leaf(term), 1, count=False).hits:
                    told = self._leaf(term).explain(self._searcher, hits[0][1]).to_json()
                    counted = _Counted(round(_told(told, "N, total")), _told(told, "avgdl"))
                    break
            self._counted = counted
        return self._counted

    def _living(self) -> Iterator[str]:
        """The most frequent term of the documents that are not deleted; reads all terms."""
        import tantivy

        every = tantivy.Query.all_query()  # which finds no deleted document
        yield from (term for term, _ in self._searcher.terms_with_prefix("body", "", filter_query=every, limit=1))

    def _balanced(self, wanted: float) -> tuple[tantivy.Searcher, int]:
        """The documents beside ballast by which their average length is the wanted one; and how many both are."""
        counted = self._count()
        if abs(wanted - counted.average) <= _SAME_AVERAGE * wanted:
            return self._searcher, counted.documents
        with self._building:
            if self._built is None or self._built[0] != wanted:
                folder = tempfile.TemporaryDirectory(prefix="llm2comp-lexical-")
                added = ballast(counted.documents, counted.average, wanted)
                searcher = _beside(self._folder, Path(folder.name), added)
                self._built = wanted, searcher, counted.documents + len(added), folder
            return self._built[1:3]

    def close(self) -> None:
        """Remove the ballast."""
        if self._built is not None:
            self._built[3].cleanup()


def _told(explanation: str, what: str) -> float:
    """A value in the explanation of a score, which names it ``what, ...``."""
    found = re.search(rf'"value": ([0-9.eE+-]+),\s*"description": "{what}\b', explanation)
    assert found is not None, f"tantivy does not tell {what}"
    return float(found.group(1))


def _beside(snapshot: Path, folder: Path, lengths: Iterable[int]) -> tantivy.Searcher:
    """The segments of a snapshot and one of documents of these lengths, linked into a folder of their own."""
    import tantivy

    extra = folder / "ballast"
    extra.mkdir()
    made = tantivy.Index(tantivy.Index.open(str(snapshot)).schema, path=str(extra))
    for name in ("body", "forms"):
        made.register_tokenizer(name, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
    writer = made.writer(heap_size=64_000_000, num_threads=1)
    for length in lengths:
        entry = tantivy.Document()
        entry.add_unsigned("num", BALLAST)
        entry.add_text("body", "0 " * length)
        writer.add_document(entry)
    writer.commit()
    writer.wait_merging_threads()
    meta = json.loads((snapshot / "meta.json").read_text("utf-8"))
    meta["segments"] += json.loads((extra / "meta.json").read_text("utf-8"))["segments"]
    for path in (*snapshot.iterdir(), *extra.iterdir()):
        if path.name not in _PRIVATE:
            (folder / path.name).symlink_to(path.resolve())
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
    return tantivy.Index.open(str(folder)).searcher()
