"""BM25 over title and text, by tantivy, one snapshot per generation.

BM25 needs statistics of the whole collection, so the documents of all vector segments share one tantivy index. A commit
does not change the snapshot that readers use: it hard-links its immutable files into a new directory, lets tantivy add
and delete there, and the manifest names the result. A snapshot is thus as immutable as a vector segment, old
generations stay readable, and a crash leaves nothing but a directory that no manifest names.

The scores depend on tantivy's own segments in one way only, as in Lucene: a deleted document counts in the statistics
until its segment is merged.

What a title says counts more than what a text says. Scores of two fields cannot be added: a word would be worth as
much again in the second as in the first. So a title's words are counted several times before the score is made.
Source: Robertson, Zaragoza, Taylor, "Simple BM25 Extension to Multiple Weighted Fields", CIKM 2004.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llm2comp_indexes.analysis import (
    ANALYSIS,
    DEFAULT_LANGUAGE,
    LENT,
    analysed,
    analyzer,
    check_language,
    function_words,
    matching_spans,
    plain,
    terms,
    words,
)
from llm2comp_indexes.errors import DamageWarning, IndexWriteError, OutdatedWarning
from llm2comp_indexes.operators import Clause
from llm2comp_indexes.statistics import BALLAST, Balance, LexicalStatistics, inverse_frequency
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import difference
from llm2comp_indexes.storage.fs import FileRecord
from llm2comp_indexes.storage.store import SegmentRecord
from llm2comp_indexes.types import Float32Array, IndexedDocument, Int64Array, QueryWords

if TYPE_CHECKING:
    import tantivy

__all__ = [
    "DEFAULT_LANGUAGE",
    "LexicalReader",
    "LexicalWriter",
    "analyzer",
    "check_language",
    "is_outdated",
    "matching_spans",
    "query_terms",
    "query_words",
    "words",
]

MOST_TERMS: Final = 1024
"""Distinct query terms that are looked up; a whole pasted article stays affordable."""

_HEAP_BYTES = 64_000_000
_FEW_DOCUMENTS = 4096  # allowed documents up to which a filter is part of the query
_PREFIX_SCORE = 3.0  # of a word that begins as it was asked for: about that of a word in every twentieth document
_MOST_BEGUN = 1000  # words with a beginning that are each tried behind another word, in a tenth of a second
_FUNCTION_WORD = 0.3  # weight of *how* or *the* beside 1 of any other word: best of 0, .3 and 1 on ten sets of queries
_TITLE = 3  # how often each word of a title counts: best of 1 to 7 on train queries of four sets
_MOST_OF_A_WORD = 2.2  # BM25 with k1 = 1.2 tends to idf times this for a word that a document repeats
_FIRST_PLAIN = 2  # versions of the analysis: the first that knew `plain` ...
_FIRST_WITH_ORDER = 3  # ... and the first that kept the order of words, titles, and words beside their stems
_LOCKS = (".tantivy-writer.lock", ".tantivy-meta.lock")
_MUTABLE = ("meta.json", ".managed.json")


@cache
def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("num", indexed=True, fast=True)
    builder.add_text_field("body", tokenizer_name="body", index_option="position")
    builder.add_text_field("title", tokenizer_name="body", index_option="position")
    builder.add_text_field("forms", tokenizer_name="forms", index_option="basic")  # words as they are, not their stems
    return builder.build()


def _register(index: tantivy.Index, language: str) -> None:
    with LENT:
        index.register_tokenizer("body", analyzer(language))
        index.register_tokenizer("forms", analyzer("none"))


def _document(num: int, document: IndexedDocument) -> tantivy.Document:
    import tantivy

    entry = tantivy.Document()
    entry.add_unsigned("num", num)
    title, text = plain(document.title), plain(document.text)
    body = f"{title} {text}" if title else text
    entry.add_text("body", body)
    for _ in range(_TITLE - 1 if title else 0):
        entry.add_text("body", title)  # by itself: no phrase goes from one into the next
    entry.add_text("title", title)
    entry.add_text("forms", body)
    return entry


def _leaf(term: str) -> tantivy.Query:
    import tantivy

    return tantivy.Query.term_query(_schema(), "body", term, index_option="freq")


def is_outdated(record: SegmentRecord) -> bool:
    """Whether a snapshot was made by an older version, with other words."""
    return bool(record.detail.get("analysis", 1) != ANALYSIS)


class LexicalWriter:
    """The next snapshot in the making.

    Args:
        temporary: where to work.
        index: the index directory.
        base: the current snapshot, None for an empty one.
        language: stemmer.
    """

    def __init__(self, temporary: Path, index: Path, base: SegmentRecord | None, language: str) -> None:
        import tantivy

        self.name = uuid.uuid4().hex
        self._directory = temporary / self.name
        self._base = {file.name: file for file in base.files} if base else {}
        fs.make_directory(self._directory)
        if base:
            self._adopt(index / base.directory)
        try:
            self._index = tantivy.Index(_schema(), path=str(self._directory))
            _register(self._index, language)
            self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        except (ValueError, OSError) as error:
            raise IndexWriteError(f"{self._directory}: the lexical index cannot be written: {error}") from error

    def _adopt(self, source: Path) -> None:
        for name in self._base:
            if name in _MUTABLE:
                shutil.copyfile(source / name, self._directory / name)
            else:
                fs.link(source / name, self._directory / name)

    def add(self, num: int, document: IndexedDocument) -> None:
        """Index a document under its number."""
        self._writer.add_document(_document(num, document))

    def delete(self, nums: Iterable[int]) -> None:
        """Remove documents."""
        import tantivy

        for num in nums:
            # Not delete_documents_by_term: it takes the number for a signed one and silently deletes nothing.
            self._writer.delete_documents_by_query(tantivy.Query.term_query(_schema(), "num", num))

    def seal(self, target: Path) -> SegmentRecord:
        """Finish the snapshot, make it durable under ``target``, and describe it for the manifest."""
        try:
            self._writer.commit()
            self._writer.wait_merging_threads()
            self._index.reload()
            documents = self._index.searcher().num_docs
        except (ValueError, OSError) as error:
            raise IndexWriteError(f"{self._directory}: the lexical index cannot be written: {error}") from error
        records = []
        for path in sorted(self._directory.iterdir()):
            if path.name in _LOCKS:
                path.unlink()
            elif path.name in self._base and path.name not in _MUTABLE:
                records.append(self._base[path.name])
            else:
                records.append(fs.record_file(path))  # tantivy has fsynced it
        fs.point("lexical-written")
        fs.rename(self._directory, target / self.name)
        fs.point("lexical-renamed")
        return SegmentRecord(self.name, "lexical", documents, tuple(records), {"analysis": ANALYSIS})


class LexicalReader:
    """A snapshot, open for searching.

    A doubtful snapshot is never searched: the reader warns and indexes ``documents`` in a temporary folder instead. One
    of an older version is searched as that version did, with a warning; the next commit makes it again.

    Args:
        index: the index directory.
        record: the snapshot of this generation.
        language: stemmer.
        documents: every document of this generation with its number, read only if the snapshot is doubtful.
        former: a reader of another generation; files that both share, as links, are not compared again.

    Attributes:
        compared: the SHA-256 of each file that was compared, by what tells it apart from others on this machine.
    """

    def __init__(
        self,
        index: Path,
        record: SegmentRecord,
        language: str,
        documents: Iterable[tuple[int, IndexedDocument]],
        former: LexicalReader | None = None,
    ) -> None:
        self.compared: dict[tuple[int, int, int], str] = {}
        self._former = {} if former is None else former.compared
        self._path = index
        self._language = language
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._version = int(record.detail.get("analysis", 1))
        self._directory: Path
        self._searcher: tantivy.Searcher = self._open(index, record) or self._rebuild(documents)
        self._former = {}
        self._balance = Balance(self._directory, self._searcher, _leaf)

    def _open(self, index: Path, record: SegmentRecord) -> tantivy.Searcher | None:
        import tantivy

        directory = index / record.directory
        for file in record.files:
            if reason := self._difference(directory / file.name, file):
                self._doubt(directory / file.name, reason)
                return None
        try:
            self._directory = Path(self._writable(directory))
            searcher = tantivy.Index.open(str(self._directory)).searcher()
        except (ValueError, OSError) as error:
            self._doubt(directory, f"cannot be opened ({error})")
            return None
        if searcher.num_docs != record.rows:
            self._doubt(directory, f"holds {searcher.num_docs} documents where {record.rows} were committed")
            return None
        if self._version < _FIRST_PLAIN:
            self._tell("finds fewer of those with accents or invisible characters")
        return searcher

    def _difference(self, path: Path, record: FileRecord) -> str | None:
        """How a file differs from what was committed; what was compared for the former reader is not read again."""
        key = None
        with contextlib.suppress(OSError):
            found = path.stat()
            key = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if key is None or self._former.get(key) != record.sha256:
            reason = difference(path, record)
            if reason is not None or key is None:
                return reason
        self.compared[key] = record.sha256
        return None

    def _tell(self, shortcoming: str) -> None:
        """Warn of what the words of an older version cannot do."""
        warnings.warn(
            f"{self._path}: the words were indexed by an older version, which {shortcoming}; the next change of the "
            "index, or compacting it, indexes them again",
            OutdatedWarning,
            stacklevel=2,
        )

    def _writable(self, directory: Path) -> str:
        """Tantivy makes lock files beside what it reads; give it a private view of a directory where it cannot.

        That view has lock files of its own: those that another reader left behind may not be writable either.

        Raises:
            IndexWriteError: it cannot be made. This is no damage, and words indexed in memory would need a folder, too.
        """
        locks = [path for path in map(directory.joinpath, _LOCKS) if path.exists()]
        if all(os.access(path, os.W_OK) for path in (directory, *locks)):
            return str(directory)
        try:
            self._private = tempfile.TemporaryDirectory(prefix="llm2comp-lexical-")
            for path in directory.iterdir():
                if path.name not in _LOCKS:
                    (Path(self._private.name) / path.name).symlink_to(path.resolve())
        except OSError as error:
            raise IndexWriteError(
                f"{directory}: cannot be locked here, and there is no temporary folder to do it in ({error}); set "
                "TMPDIR to a folder that can be written"
            ) from error
        return self._private.name

    @staticmethod
    def _doubt(path: Path, reason: str) -> None:
        warnings.warn(
            f"{path}: {reason}; searching a lexical index rebuilt for this reader (the next commit repairs it)",
            DamageWarning,
            stacklevel=2,
        )

    def _rebuild(self, documents: Iterable[tuple[int, IndexedDocument]]) -> tantivy.Searcher:
        import tantivy

        self._version = ANALYSIS
        self._private = tempfile.TemporaryDirectory(prefix="llm2comp-lexical-")
        self._directory = Path(self._private.name)
        index = tantivy.Index(_schema(), path=self._private.name)
        _register(index, self._language)
        writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        for num, document in documents:
            writer.add_document(_document(num, document))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        return index.searcher()

    def statistics(self, query: str) -> LexicalStatistics:
        """What another index must know of this one to compare scores for a query."""
        return self._balance.statistics(self._weights(query))

    def search(
        self,
        query: str,
        k: int,
        allowed: Int64Array | None = None,
        clauses: Sequence[Clause] = (),
        statistics: LexicalStatistics | None = None,
    ) -> tuple[Int64Array, Float32Array]:
        """The k best documents for any text at all: it is analysed, never parsed.

        Args:
            query: words.
            k: documents wanted; fewer are returned when fewer share a word with the query.
            allowed: ascending numbers of the documents that may be returned; None = all.
            clauses: what documents must hold besides, must not hold, or may hold (`llm2comp_indexes.operators`).
            statistics: of several indexes for this query, this one among them: scores are then those that one index
                of all documents would give. None = of this one.

        Returns:
            Numbers (n,) and BM25 scores (n,), best first, the lower number first among equals.
        """
        terms, searcher = self._weights(query), self._searcher
        if statistics is not None:
            searcher, terms = self._balance.weighed(terms, statistics)
        total = searcher.num_docs
        if not (terms or clauses) or not total or k < 1 or (allowed is not None and not len(allowed)):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        tree = self._tree(terms, clauses, allowed if allowed is not None and len(allowed) <= _FEW_DOCUMENTS else None)
        limit = min(k + 1, total)
        while True:
            nums, scores = _best(searcher, tree, limit)
            exhausted = len(nums) < limit or limit == total
            kept = nums < BALLAST if allowed is None else np.isin(nums, allowed)
            # A tie across the cut could hide a lower number, so continue until the score drops or nothing is left.
            settled = kept.sum() >= k and scores[kept][k - 1] > scores[-1]
            if exhausted or settled:
                nums, scores = nums[kept], scores[kept]
                order = np.lexsort((nums, -scores))[:k]
                return nums[order], scores[order]
            limit = min(4 * limit, total)

    def meeting(self, clauses: Sequence[Clause]) -> Int64Array:
        """Numbers of all documents that meet the clauses, ascending."""
        import tantivy

        total = self._searcher.num_docs
        if not total:
            return np.empty(0, dtype=np.int64)
        tree = tantivy.Query.boolean_query([(tantivy.Occur.Must, tantivy.Query.all_query()), *self._demands(clauses)])
        return np.sort(_best(self._searcher, tree, total)[0])

    def query_words(self, query: str, statistics: LexicalStatistics | None = None) -> QueryWords:
        """What a query asks for, measured by the frequencies of its words here, or by those of several indexes."""
        if statistics is None:
            statistics = self.statistics(query)  # which counts the documents that BM25 counts, deleted ones among them
        return query_words(query, self._language, statistics, self._version)

    def _weights(self, text: str) -> dict[str, float]:
        return query_terms(text, self._language, self._version)

    def _terms(self, text: str) -> list[str]:
        return terms(text, self._language, self._version)

    def _tree(self, terms: Mapping[str, float], clauses: Sequence[Clause], allowed: Int64Array | None) -> tantivy.Query:
        import tantivy

        leaves: list[tuple[Any, Any]] = []
        for term, weight in terms.items():
            leaf = _leaf(term)
            leaves.append((tantivy.Occur.Should, leaf if weight == 1 else tantivy.Query.boost_query(leaf, weight)))
        for clause in clauses:
            if clause.kind == "prefix" and clause.sign != "must not":
                scored = tantivy.Query.const_score_query(self._query_of(clause), _PREFIX_SCORE)
                leaves.append((tantivy.Occur.Should, scored))
        tree = tantivy.Query.boolean_query(leaves)
        demands = self._demands(clauses)
        if allowed is not None:
            among = tantivy.Query.term_set_query(_schema(), "num", allowed.tolist())
            demands.append((tantivy.Occur.Must, tantivy.Query.const_score_query(among, 0.0)))
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, tree), *demands]) if demands else tree

    def _demands(self, clauses: Sequence[Clause]) -> list[tuple[Any, Any]]:
        """What must and must not occur, for no score."""
        import tantivy

        if clauses and self._version < _FIRST_WITH_ORDER:
            self._tell("knows neither the order of words nor titles: operators find more than they should")
        occurs = {"must": tantivy.Occur.Must, "must not": tantivy.Occur.MustNot}
        return [
            (occurs[clause.sign], tantivy.Query.const_score_query(self._query_of(clause), 0.0))
            for clause in clauses
            if clause.sign != "may"
        ]

    def _query_of(self, clause: Clause) -> tantivy.Query:
        """What finds the documents that hold what a clause names."""
        import tantivy

        ordered = self._version >= _FIRST_WITH_ORDER
        field = "title" if clause.title and ordered else "body"
        terms = self._terms(clause.text)
        forms = analysed(analyzer("none"), plain(clause.text)) if clause.kind != "word" and ordered else []
        every = [tantivy.Query.term_query(_schema(), field, term, index_option="freq") for term in terms]
        if clause.kind == "phrase" and len(forms) == 1:
            every.append(tantivy.Query.term_query(_schema(), "forms", forms[0], index_option="basic"))
        elif clause.kind == "phrase" and forms:
            return tantivy.Query.phrase_query(_schema(), field, list(terms))
        elif clause.kind == "prefix" and forms and forms[-1].isalnum():
            begun = tantivy.Query.regex_query(_schema(), "forms", f"{forms[-1]}.*")
            placed = self._begun(field, terms[:-1], forms[-1]) if terms[1:] or clause.title else None
            every = [begun, *every[:-1]] if placed is None else [begun, placed]
        elif clause.kind == "prefix" and len(terms) == 1 and terms[0].isalnum():
            return tantivy.Query.regex_query(_schema(), field, f"{terms[0]}.*")
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in every])

    def _begun(self, field: str, before: Sequence[str], beginning: str) -> tantivy.Query | None:
        """What finds stems of words that begin so, right behind others; None where they are too many to be tried."""
        import tantivy

        begun = self._searcher.terms_with_prefix("forms", beginning)
        stems = sorted({stem for form, _ in begun for stem in analysed(analyzer(self._language), form)})
        if not before:
            return tantivy.Query.term_set_query(_schema(), field, stems)
        if len(stems) > _MOST_BEGUN:
            return None
        phrases = [tantivy.Query.phrase_query(_schema(), field, [*before, stem]) for stem in stems]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, phrase) for phrase in phrases])

    def close(self) -> None:
        """Remove what was made for this reader alone."""
        self._balance.close()
        if self._private is not None:
            self._private.cleanup()


def query_words(query: str, language: str, statistics: LexicalStatistics, version: int = ANALYSIS) -> QueryWords:
    """What a query asks of the words of documents.

    Args:
        query: words.
        language: of the documents.
        statistics: of them, for this query.
        version: of the analysis by which they were indexed.
    """
    most = 0.0
    for term, weight in query_terms(query, language, version).items():
        having = statistics.frequencies.get(term, 0)
        # Deleted documents have their words until they are merged away.
        most += _MOST_OF_A_WORD * weight * inverse_frequency(max(statistics.documents, having), having)
    forms = terms(query, "none", version)
    empty = function_words(query, language, version)
    return QueryWords(most, len({form for form, says_nothing in zip(forms, empty, strict=True) if not says_nothing}))


def query_terms(text: str, language: str, version: int = ANALYSIS) -> dict[str, float]:
    """The terms of a query and how much each counts: as often as it occurs, and function words little."""
    found: dict[str, float] = {}
    empty = function_words(text, language, version)
    for says_nothing, term in zip(empty, terms(text, language, version), strict=True):
        if term in found or len(found) < MOST_TERMS:
            weight = _FUNCTION_WORD if says_nothing else 1.0
            found[term] = found.get(term, 0.0) + weight
    return found


def _best(searcher: tantivy.Searcher, tree: tantivy.Query, limit: int) -> tuple[Int64Array, Float32Array]:
    hits: Sequence[tuple[float, Any]] = searcher.search(tree, limit, count=False).hits
    nums = searcher.fast_field_values("num", [address for _, address in hits])
    return np.array(nums, dtype=np.int64), np.array([score for score, _ in hits], dtype=np.float32)
