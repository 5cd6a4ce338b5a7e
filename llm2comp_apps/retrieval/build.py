"""From documents to a committed index: skip what is there, encode the rest, commit as it goes.

The stream is bounded: one window of documents is held at a time, sorted by length so that batches hold texts of one
size, and encoded in slices of a few seconds. Between slices the build can commit, report or stop. A build that is
interrupted commits the slices that are done; one that is cut off by the power loses what it did since the last commit.
Run again, it finds by content hash which documents are in the index, and continues with the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm2comp_apps.corpus import Document, chunk_document
from llm2comp_apps.encoder.protocol import FloatArray, HasTokenizer, TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.lengths import room_for_text, texts_cut, title_and_size, truncation_line
from llm2comp_apps.retrieval.plan import EmbeddingPlan, check_document
from llm2comp_apps.retrieval.rerank import encode_memory_with, pool_memory

if TYPE_CHECKING:
    from llm2comp_indexes import Index, IndexedDocument, Writer

__all__ = [
    "IDS_NAMED",
    "BuildProgress",
    "CommitRule",
    "Survey",
    "UpdateReport",
    "document_texts",
    "fill_index",
    "refusal_line",
    "survey",
]

#: Ids that a report names, of those that it counts.
IDS_NAMED = 5
#: Documents per look-up of content hashes.
_LOOKUP = 512
#: A window ends at whichever comes first. The first makes batches even, the second bounds memory for long documents.
_WINDOW_DOCUMENTS = 2048
_WINDOW_CHARACTERS = 16_000_000
#: Wanted seconds of encoding between two looks at the clock, the keyboard and the progress line.
_SLICE_SECONDS = 8.0
#: Characters of a slice at least, and of the first, when the encoder's speed is not known yet: about two full
#: batches of our encoders on a CPU, since half-empty ones waste time.
_MIN_SLICE = 16_000


@dataclass(frozen=True, slots=True)
class CommitRule:
    """When a build commits, and so how much work a build that is cut off may lose.

    Attributes:
        seconds: a commit comes before the next slice, if it takes as long as the last, would be over later than this.
        documents: a commit comes after so many documents at the latest.
    """

    seconds: float = 30.0
    documents: int = 8192


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a corpus found: how much work there is.

    Attributes:
        documents: documents in the corpus.
        new: of these, not in the index yet, or changed.
        characters: title and text of the new ones.
    """

    documents: int = 0
    new: int = 0
    characters: int = 0

    def share(self, progress: BuildProgress) -> float | None:
        """How much of the work is done, by characters, since the longest documents of each window come first."""
        return progress.characters / self.characters if self.characters else None


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """A look at a running build: documents and characters encoded in this run, and documents skipped as unchanged."""

    documents: int
    characters: int
    unchanged: int

    def __str__(self) -> str:
        return f"{self.documents} documents encoded, {self.unchanged} unchanged"


@dataclass(slots=True)
class UpdateReport:
    """What a build did.

    Attributes:
        read: documents that the corpus gave.
        unchanged: of these, in the index already, with the same content.
        added: encoded and committed, new ones and changed ones.
        replaced: of these, in place of a document that had the same id.
        replaced_ids: the first few of them.
        removed: documents deleted, since the corpus does not hold them any more
            (:func:`llm2comp_apps.retrieval.mirroring.mirror`).
        others: documents of the index that the corpus does not hold, and that stay; counted where the corpus is
            meant to be the whole index.
        other_ids: the first few of them, or of those removed.
        vectors: vectors made; more than ``added`` where documents were chunked.
        truncated: texts of which only the beginning was encoded, since they are longer than the encoder reads.
        commits: commits made.
        interrupted: ended before the corpus did, because it was asked to.
        seconds: all the time.
        encode_seconds: the encoder's share.
        refusal: why the kind that the index's settings ask for is refused, if it is: the vectors are then compared
            one by one.
        warnings: what is worth a word, each a finished line: documents that were cut off, a refused kind.
    """

    read: int = 0
    unchanged: int = 0
    added: int = 0
    replaced: int = 0
    replaced_ids: list[str] = field(default_factory=list)
    removed: int = 0
    others: int = 0
    other_ids: list[str] = field(default_factory=list)
    vectors: int = 0
    truncated: int = 0
    commits: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    encode_seconds: float = 0.0
    refusal: str | None = None
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.added - self.replaced} documents added"]
        if self.replaced:
            parts.append(f"{self.replaced} replaced")
        parts[-1] += f" ({self.vectors} vectors)"
        parts.append(f"{self.unchanged} unchanged")
        return ", ".join([*parts, f"{self.removed} removed"] if self.removed else parts)


@dataclass(frozen=True, slots=True)
class _Job:
    """A document on its way to the index, with the texts that stand for it, one per vector."""

    document: IndexedDocument
    texts: list[str]
    characters: int
    replaces: bool


def survey(
    index: Index | None,
    documents: Iterable[Document],
    plan: EmbeddingPlan,
    fingerprint: str,
    on_progress: Callable[[int], None] | None = None,
) -> Survey:
    """Read a corpus once without encoding it: finds broken records in seconds, and the total for time left.

    Args:
        index: the index to be filled; ``None`` if it is yet to be made.
        documents: the corpus.
        plan: as for the build.
        fingerprint: the encoder's.
        on_progress: called now and then with the number of documents read.
    """
    total = new = characters = 0
    for block in batched(map(_checked, documents), _LOOKUP):
        held = {} if index is None else index.hashes([document.id for document in block])
        for document in block:
            total += 1
            if held.get(document.id) != plan.content_hash(document, fingerprint):
                new += 1
                characters += len(document.title) + len(document.text)
        if on_progress is not None and total % _LOOKUP == 0:
            on_progress(total)
    return Survey(total, new, characters)


def _checked(document: Document) -> Document:
    check_document(document)
    return document


def fill_index(
    index: Index,
    encoder: TextEncoder,
    documents: Iterable[Document],
    plan: EmbeddingPlan,
    *,
    rule: CommitRule | None = None,
    device: str = "cpu",
    on_progress: Callable[[BuildProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> UpdateReport:
    """Add to the index what it does not hold yet of a corpus.

    Args:
        index: an index of this encoder and plan.
        encoder: makes the vectors.
        documents: the corpus, streamed; of one id given twice the last counts.
        plan: how a document becomes vectors.
        rule: when to commit.
        device: where FAISS indexes are trained, ``cpu`` or ``cuda``.
        on_progress: called after every slice.
        should_stop: asked after every slice; ``True`` commits what is there and ends the build.

    Returns:
        What was done; everything it counts as added is committed. ``interrupted`` if ``should_stop`` ended it.

    Raises:
        KeyboardInterrupt: ctrl-C, and any error of the documents or the encoder, after the slices that were done have
            been committed.
        IndexStoreError: the index cannot be written; the last commit stands.
    """
    if not isinstance(documents, Iterable):
        raise UsageError(f"must be a list, not {documents!r:.60}", field="documents")
    return _Build(index, encoder, plan, rule or CommitRule(), device, on_progress, should_stop).run(documents)


def refusal_line(index: Index, refusal: str) -> str:
    """What a refused kind means for an index: a matter of speed, since every document is committed.

    Args:
        index: after the commit.
        refusal: `Writer.refusal`.
    """
    exact = "and searched exactly"
    if index.info().kind != "flat":
        exact = "and those that this kind does not fit are searched exactly"
    return f"{refusal}: the {len(index):,} documents are safe {exact}; compact chooses another kind"


def document_texts(
    document: Document, encoder: TextEncoder, plan: EmbeddingPlan
) -> tuple[tuple[tuple[int, int], ...], list[str]]:
    """The texts that stand for a document, and their places in it; no places for a document in one piece.

    Raises:
        UsageError: chunks are wanted, and the encoder shows no tokenizer to count by.
    """
    if plan.chunk is None:
        return (), [document.content]
    if not isinstance(encoder, HasTokenizer):
        reason = f"needs a tokenizer to count tokens by, and the encoder {encoder.name} shows none"
        raise UsageError(reason, field="chunk")
    room = room_for_text(encoder, plan.prompt)
    title, size = title_and_size(document.title, plan.chunk, room, encoder.tokenizer)
    chunks = chunk_document(document, encoder.tokenizer, size, min(plan.overlap, size - 1))
    if len(chunks) == 1:
        return (), [Document(document.id, document.text, title).content or document.title]
    # Each piece carries the title, which often names what the text calls "it".
    texts = [Document(document.id, chunk.text, title).content for chunk in chunks]
    return tuple((chunk.start, chunk.end) for chunk in chunks), texts


@dataclass(slots=True)
class _Build:
    """The state of one :func:`fill_index`."""

    index: Index
    encoder: TextEncoder
    plan: EmbeddingPlan
    rule: CommitRule
    device: str
    on_progress: Callable[[BuildProgress], None] | None
    should_stop: Callable[[], bool] | None
    report: UpdateReport = field(default_factory=UpdateReport)
    characters: int = 0
    slice_size: float = _MIN_SLICE  # in characters
    uncommitted: int = 0
    writing: bool = False
    last_commit: float = field(default_factory=time.perf_counter)

    def run(self, documents: Iterable[Document]) -> UpdateReport:
        start = time.perf_counter()
        with self.index.writer(self.device) as writer:
            self.index.refresh()  # another program may have changed it since; now none can
            try:
                for jobs in self.slices(writer, documents):
                    self.add(writer, jobs)
                    if self.stopping():
                        break
            except BaseException:
                if not self.writing:
                    self.commit(writer)
                raise
            self.commit(writer)
        self.report.refusal = writer.refusal
        if line := truncation_line(self.report.truncated, self.encoder, self.plan):
            self.report.warnings.append(line)
        if writer.refusal is not None:
            self.report.warnings.append(refusal_line(self.index, writer.refusal))
        self.report.seconds = time.perf_counter() - start
        return self.report

    def stopping(self) -> bool:
        """Whether the build is to end here."""
        self.report.interrupted = self.should_stop is not None and self.should_stop()
        return self.report.interrupted

    def slices(self, writer: Writer, documents: Iterable[Document]) -> Iterator[list[_Job]]:
        """Cut windows, longest documents first, into pieces of about :data:`_SLICE_SECONDS`."""
        for window in self.windows(writer, documents):
            window.sort(key=lambda job: job.characters, reverse=True)
            piece: list[_Job] = []
            size = 0
            for job in window:
                if piece and size + job.characters > self.slice_size:
                    yield piece
                    piece, size = [], 0
                piece.append(job)
                size += job.characters
            yield piece

    def windows(self, writer: Writer, documents: Iterable[Document]) -> Iterator[list[_Job]]:
        """Bounded lists of the documents that have to be encoded, each id once: a later document counts."""
        window: dict[str, _Job] = {}
        size = 0
        for block in batched(map(_checked, documents), _LOOKUP):
            held = writer.hashes([document.id for document in block])
            for document in block:
                self.report.read += 1
                if earlier := window.pop(document.id, None):
                    size -= earlier.characters
                before, now = held.get(document.id), self.plan.content_hash(document, self.encoder.fingerprint)
                if before == now:
                    self.report.unchanged += 1
                    if self.stopping():  # a corpus of which nothing is new has no slices to stop after
                        return
                    continue
                window[document.id] = job = self.job(document, now, replaces=before is not None)
                size += job.characters
                if len(window) >= _WINDOW_DOCUMENTS or size >= _WINDOW_CHARACTERS:
                    yield list(window.values())
                    held |= {id_: job.document.content_hash for id_, job in window.items()}  # the writer has them now
                    window, size = {}, 0
        if window:
            yield list(window.values())

    def job(self, document: Document, content_hash: str, *, replaces: bool) -> _Job:
        """Chunk a document, or take it whole."""
        from llm2comp_indexes import IndexedDocument

        spans, texts = document_texts(document, self.encoder, self.plan)
        indexed = IndexedDocument(
            id=document.id,
            text=document.text,
            title=document.title,
            metadata=document.metadata,
            spans=spans,
            content_hash=content_hash,
        )
        return _Job(indexed, texts, sum(map(len, texts)), replaces)

    def add(self, writer: Writer, jobs: list[_Job]) -> None:
        """Encode one slice, hand it to the writer, commit if it is time."""
        texts = [text for job in jobs for text in job.texts]
        start = time.perf_counter()
        cut = texts_cut(self.encoder)
        vectors, memory = self.encode(texts)
        self.report.truncated += texts_cut(self.encoder) - cut
        elapsed = time.perf_counter() - start
        characters = sum(job.characters for job in jobs)
        self.slice_size = max(_MIN_SLICE, _SLICE_SECONDS * characters / max(elapsed, 1e-6))
        self.writing = True  # an interruption from here on leaves the writer in no state to commit
        writer.add([job.document for job in jobs], vectors, memory=memory)
        self.writing = False
        self.report.encode_seconds += elapsed
        self.report.added += len(jobs)
        replaced = [job.document.id for job in jobs if job.replaces]
        self.report.replaced += len(replaced)
        self.report.replaced_ids += replaced[: IDS_NAMED - len(self.report.replaced_ids)]
        self.report.vectors += len(texts)
        self.characters += characters
        self.uncommitted += len(jobs)
        late = time.perf_counter() - self.last_commit + elapsed >= self.rule.seconds
        if late or self.uncommitted >= self.rule.documents:
            self.commit(writer)
        if self.on_progress is not None:
            self.on_progress(BuildProgress(self.report.added, self.characters, self.report.unchanged))

    def encode(self, texts: list[str]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings ``(n, d)`` and, if they are stored, memory vectors ``(n, k, d)``, in one pass."""
        prompt = self.plan.prompt or None
        if not self.plan.memory:
            return self.encoder.encode(texts, prompt=prompt), None
        encoder = encode_memory_with(self.encoder)
        memory = encoder.encode_memory(texts, prompt=prompt)
        return pool_memory(memory, encoder.pooling), memory

    def commit(self, writer: Writer) -> None:
        """Make durable what was added."""
        if self.uncommitted:
            self.writing = True
            writer.commit()
            self.writing = False
            self.report.commits += 1
            self.uncommitted = 0
        self.last_commit = time.perf_counter()
