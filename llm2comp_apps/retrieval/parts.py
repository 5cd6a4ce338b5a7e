"""Encoded documents in a file, made on one machine and put into an index on another.

A part is a Parquet file such as an index exports (``id``, ``title``, ``text``, ``metadata``, ``content_hash``,
``start``, ``end``, ``vector``), with a column ``memory`` where memory vectors are kept. So everything that reads an
export reads a part. Titles, texts and metadata are written as dictionaries: each row of a chunk has those of its whole
document. The same documents, encoder and plan give the same bytes, whoever writes them and whenever: texts
are encoded in batches that depend on nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.report import MAX_LISTED
from llm2comp_apps.corpus.seen import SeenIds, content_id
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import CorpusError
from llm2comp_apps.retrieval.build import document_texts, refusal_line
from llm2comp_apps.retrieval.lengths import texts_cut
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.rerank import encode_memory_with, pool_memory

if TYPE_CHECKING:
    import pyarrow
    from llm2comp_indexes import Index, IndexedDocument

__all__ = ["EncodedBlock", "PartReport", "PartsReport", "import_parts", "read_part", "write_part"]

#: Documents and characters of a block: texts of one size are encoded together within it, and it is a row group.
_BLOCK_DOCUMENTS = 2048
_BLOCK_CHARACTERS = 16_000_000
#: Columns in which each row of a chunk has what all of its document have; their texts stand once in a row group.
_REPEATED = ("title", "text", "metadata")
_LONGEST = (1 << 31) - 1  # bytes
#: Characters that are encoded between two looks at whether to stop. It must not depend on time, see above.
_SLICE_CHARACTERS = 64_000


@dataclass(slots=True)
class PartReport:
    """What was written.

    Attributes:
        documents: of the part.
        vectors: as many, or more where documents were cut into chunks.
        truncated: texts of which only the beginning was read.
        stopped: ended because it was asked to; the file is of no use then.
    """

    documents: int = 0
    vectors: int = 0
    truncated: int = 0
    stopped: bool = False


class EncodedBlock(NamedTuple):
    """Documents with their vectors.

    Attributes:
        documents: n.
        vectors: (rows, d), those of each document in turn.
        memory: (rows, k, d) memory vectors, if they are kept.
    """

    documents: list[IndexedDocument]
    vectors: FloatArray
    memory: FloatArray | None


def write_part(
    path: str | Path,
    documents: Iterable[Document],
    encoder: TextEncoder,
    plan: EmbeddingPlan,
    *,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PartReport:
    """Encode documents into a file.

    Args:
        path: the file; it is not synced, and of no use after an error.
        documents: streamed; a block of them is held.
        encoder: makes the vectors.
        plan: how a document becomes vectors.
        on_progress: called with the number of documents encoded so far.
        should_stop: asked now and then.
    """
    from pyarrow import parquet

    report = PartReport()
    cut = texts_cut(encoder)
    k = encode_memory_with(encoder).k if plan.memory else 0
    schema = _schema(encoder.dimension, plan, memory=plan.memory)
    # Vectors hardly compress, and dictionaries of floats only cost time.
    form = {"compression": "zstd", "use_dictionary": list(_REPEATED), "dictionary_pagesize_limit": _LONGEST}
    with parquet.ParquetWriter(path, schema, write_statistics=False, **form) as file:
        for block in _blocks(documents):
            encoded = _encoded(block, encoder, plan, k, report, on_progress, should_stop)
            if encoded is None:
                report.stopped = True
                break
            file.write_table(_table(encoded, schema))
    report.truncated = texts_cut(encoder) - cut
    return report


def read_part(path: str | Path) -> Iterator[EncodedBlock]:
    """The documents of a part with their vectors, some thousands at a time.

    Raises:
        CorpusError: it is no part.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, read_dictionary=list(_REPEATED)) as file:
            groups = range(file.num_row_groups)
            yield from _whole(_block(file.read_row_group(group, use_threads=False)) for group in groups)
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path}: is no part that can be read: {error}") from error


@dataclass(slots=True)
class PartsReport:
    """What was imported.

    Attributes:
        parts: imported, those of which everything was there among them.
        added: documents that are new or have changed.
        unchanged: documents that the index held just so.
        duplicates: documents that an earlier part had just so; left out.
        conflicts: documents whose id stands for another document in an earlier part; left out.
        vectors: those of the documents added.
        interrupted: ended before all parts were read, because it was asked to.
        warnings: what is worth a word.
    """

    parts: int = 0
    added: int = 0
    unchanged: int = 0
    duplicates: int = 0
    conflicts: int = 0
    vectors: int = 0
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)


def import_parts(
    index: Index,
    parts: Iterable[tuple[str, Path]],
    *,
    skip_conflicts: bool = False,
    device: str = "cpu",
    on_progress: Callable[[PartsReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PartsReport:
    """Put parts into an index, in order, with a commit for each; what the index holds already is skipped.

    Args:
        index: made for these vectors.
        parts: of one corpus: what each is called, and where it lies. A file is needed until the next one is asked for.
        skip_conflicts: count documents whose id stands for another one in an earlier part, instead of failing.
        device: where FAISS indexes are trained.
        on_progress: called after each part.
        should_stop: asked after each part.

    Raises:
        CorpusError: a part cannot be read, or an id stands for two documents. The parts before are committed.
        IndexStoreError: the index cannot be written; the last commit stands.
    """
    report = PartsReport()
    with SeenIds() as seen, index.writer(device) as writer:
        index.refresh()
        for name, path in parts:
            for block in read_part(path):
                kept = _kept(block.documents, index, seen, name, report, skip_conflicts=skip_conflicts)
                if kept.any():
                    fresh = _chosen(block, kept)
                    writer.add(fresh.documents, fresh.vectors, memory=fresh.memory)
                    report.added += len(fresh.documents)
                    report.vectors += len(fresh.vectors)
            writer.commit()
            report.parts += 1
            if on_progress is not None:
                on_progress(report)
            if should_stop is not None and should_stop():
                report.interrupted = True
                break
    if report.conflicts > MAX_LISTED:
        report.warnings.append(f"... and {report.conflicts - MAX_LISTED} more documents whose ids stand for others")
    if writer.refusal is not None:
        report.warnings.append(refusal_line(index, writer.refusal))
    return report


# --- writing ---------------------------------------------------------------------------------------------------------


def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    block: list[Document] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document.title) + len(document.text)
        if len(block) >= _BLOCK_DOCUMENTS or size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _encoded(
    block: list[Document],
    encoder: TextEncoder,
    plan: EmbeddingPlan,
    k: int,
    report: PartReport,
    on_progress: Callable[[int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> EncodedBlock | None:
    """A block encoded, longest documents first; ``None`` if it was stopped."""
    from llm2comp_indexes import IndexedDocument

    cut = [document_texts(document, encoder, plan) for document in block]
    counts = np.array([len(texts) for _, texts in cut])
    firsts = np.cumsum(counts) - counts
    vectors = np.empty((int(counts.sum()), encoder.dimension), dtype=np.float32)
    memory = np.empty((len(vectors), k, encoder.dimension), dtype=np.float32) if k else None
    sizes = [sum(map(len, texts)) for _, texts in cut]
    for piece in _sliced(sorted(range(len(block)), key=lambda place: -sizes[place]), sizes):
        if should_stop is not None and should_stop():
            return None
        texts = [text for place in piece for text in cut[place][1]]
        rows = np.concatenate([np.arange(firsts[place], firsts[place] + counts[place]) for place in piece])
        if memory is None:
            vectors[rows] = encoder.encode(texts, prompt=plan.prompt or None)
        else:
            maker = encode_memory_with(encoder)
            memory[rows] = maker.encode_memory(texts, prompt=plan.prompt or None)
            vectors[rows] = pool_memory(memory[rows], maker.pooling)
        report.documents += len(piece)
        report.vectors += len(rows)
        if on_progress is not None:
            on_progress(report.documents)
    documents = [
        IndexedDocument(
            id=document.id,
            text=document.text,
            title=document.title,
            metadata=document.metadata,
            spans=spans,
            content_hash=plan.content_hash(document, encoder.fingerprint),
        )
        for document, (spans, _) in zip(block, cut, strict=True)
    ]
    return EncodedBlock(documents, vectors, memory)


def _sliced(places: list[int], sizes: list[int]) -> Iterator[list[int]]:
    piece: list[int] = []
    size = 0
    for place in places:
        if piece and size + sizes[place] > _SLICE_CHARACTERS:
            yield piece
            piece, size = [], 0
        piece.append(place)
        size += sizes[place]
    if piece:
        yield piece


def _schema(dimension: int, plan: EmbeddingPlan, *, memory: bool) -> pyarrow.Schema:
    import pyarrow as pa

    text, position = pa.string(), pa.int64()
    columns = dict.fromkeys(("id", *_REPEATED, "content_hash"), text)
    columns |= {name: pa.dictionary(pa.int32(), text) for name in _REPEATED}
    columns |= {"start": position, "end": position, "vector": pa.list_(pa.float32(), dimension)}
    columns |= {"memory": pa.binary()} if memory else {}
    return pa.schema(columns).with_metadata({"llm2comp.settings": json.dumps(plan.to_settings())})


def _table(block: EncodedBlock, schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow as pa

    documents = block.documents
    rows = np.repeat(np.arange(len(documents)), [document.rows for document in documents])
    spans = [span for document in documents for span in document.spans or (None,)]
    dimension = block.vectors.shape[1]
    columns: list[list[str]] = [
        [document.id for document in documents],
        [document.title for document in documents],
        [document.text for document in documents],
        [json.dumps(document.metadata, ensure_ascii=False) for document in documents],
        [document.content_hash for document in documents],
    ]
    encoded = (pa.array(column, pa.string()).dictionary_encode().take(pa.array(rows)) for column in columns)
    arrays = [column.cast(kind) for column, kind in zip(encoded, schema.types, strict=False)]
    arrays += [pa.array([span and span[place] for span in spans], pa.int64()) for place in (0, 1)]
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.ravel()), dimension))
    if block.memory is not None:
        arrays.append(pa.array([row.astype("<f4").tobytes() for row in block.memory], pa.binary()))
    return pa.table(arrays, schema=schema)


# --- reading ---------------------------------------------------------------------------------------------------------


def _block(table: pyarrow.Table) -> EncodedBlock:
    from llm2comp_indexes import IndexedDocument

    ids, hashes, starts, ends = (table.column(name).to_pylist() for name in ("id", "content_hash", "start", "end"))
    column = table.column("vector").combine_chunks()
    vectors = column.values.to_numpy(zero_copy_only=False).reshape(len(ids), -1)
    documents: list[IndexedDocument] = []
    for row, id_ in enumerate(ids):
        span = () if starts[row] is None else ((starts[row], ends[row]),)
        if span and documents and documents[-1].id == id_:
            documents[-1] = replace(documents[-1], spans=documents[-1].spans + span)
            continue
        title, text, metadata = (table.column(name)[row].as_py() for name in _REPEATED)  # of the first row alone
        documents.append(IndexedDocument(id_, text, title, json.loads(metadata), span, hashes[row]))
    memory = None
    if "memory" in table.column_names:
        flat = np.frombuffer(b"".join(table.column("memory").to_pylist()), dtype="<f4")
        memory = flat.reshape(len(ids), -1, vectors.shape[1])
    return EncodedBlock(documents, vectors, memory)


def _whole(blocks: Iterable[EncodedBlock]) -> Iterator[EncodedBlock]:
    """Blocks in which no document continues from one to the next, as a long one does in an exported index."""
    held: EncodedBlock | None = None
    for following in blocks:
        block = following
        if held is not None and held.documents[-1].id == block.documents[0].id:
            begun, rest = held.documents[-1], block.documents[0]
            rows = len(held.vectors) - begun.rows
            block = EncodedBlock(
                [replace(begun, spans=begun.spans + rest.spans), *block.documents[1:]],
                np.concatenate([held.vectors[rows:], block.vectors]),
                None if held.memory is None else np.concatenate([held.memory[rows:], block.memory]),
            )
            memory = None if held.memory is None else held.memory[:rows]
            held = EncodedBlock(held.documents[:-1], held.vectors[:rows], memory)
        if held is not None and held.documents:
            yield held
        held = block
    if held is not None:
        yield held


def _kept(
    documents: list[IndexedDocument],
    index: Index,
    seen: SeenIds,
    part: str,
    report: PartsReport,
    *,
    skip_conflicts: bool,
) -> np.ndarray:
    """Which documents are to be added."""
    held = index.hashes([document.id for document in documents])
    kept = np.zeros(len(documents), dtype=bool)
    for place, document in enumerate(documents):
        derived = document.id == content_id(document.title, document.text)
        here = Document(document.id, document.text, document.title, document.metadata, part)
        earlier = seen.add(here, derived=derived)
        if earlier is None:
            kept[place] = held.get(document.id) != document.content_hash
            report.unchanged += not kept[place]
        elif not earlier:
            report.duplicates += 1
        else:
            reason = f"{part}: the id {document.id!r} already stands for another document, in {earlier}"
            if not skip_conflicts:
                raise CorpusError(f"{reason} (`on_error=skip` leaves such documents out)")
            report.conflicts += 1
            if report.conflicts <= MAX_LISTED:
                report.warnings.append(f"{reason}; left out")
    return kept


def _chosen(block: EncodedBlock, kept: np.ndarray) -> EncodedBlock:
    if kept.all():
        return block
    rows = np.repeat(kept, [document.rows for document in block.documents])
    documents = [document for document, wanted in zip(block.documents, kept.tolist(), strict=True) if wanted]
    return EncodedBlock(documents, block.vectors[rows], None if block.memory is None else block.memory[rows])
