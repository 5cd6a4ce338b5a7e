"""Indexes of vectors that were made elsewhere: :func:`import_index`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import CorpusError, UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.build import refusal_line
from llm2comp_apps.retrieval.creation import remove_unfilled
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.index_encoder import UNKNOWN_ENCODER
from llm2comp_apps.retrieval.plan import EmbeddingPlan, check_document
from llm2comp_apps.retrieval.row_ids import RowIds, find_ids_file
from llm2comp_apps.retrieval.settings import IndexSettings
from llm2comp_apps.retrieval.spot_check import SpotCheck

if TYPE_CHECKING:
    import numpy as np
    from llm2comp_indexes import Batch, Index, IndexedDocument

__all__ = ["ImportReport", "import_index"]

_BATCH = 4096
_BY_WORDS_ONLY = (
    "the vectors do not say which encoder made them, so the index can be searched by words only (import them with "
    "`encoder` to search by meaning, too)"
)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        documents: how many there are now.
        refusal: why the kind that was asked for is refused, if it is: the vectors are then compared one by one.
        warnings: what is worth a word, each a finished line: a refused kind, an unknown encoder, memory vectors that
            were left behind.
    """

    documents: int
    refusal: str | None = None
    warnings: list[str] = field(default_factory=list)


def import_index(
    path: str | Path,
    vectors: str | Path,
    documents: Iterable[Document] | None = None,
    *,
    encoder: str | TextEncoder | None = None,
    kind: str | None = None,
    language: str | None = None,
    device: str | None = None,
) -> ImportReport:
    """Make an index of ready vectors, in one commit.

    Args:
        path: where the index goes; nothing is left there if the import fails.
        vectors: a ``.parquet`` file with the columns ``id`` and ``vector`` (or ``embedding``), which brings its
            documents, further columns as metadata; or an ``.npy`` matrix ``(rows, d)``.
        documents: of the rows of a matrix, in their order or in that of a file of ids beside it (see ``row_ids``).
        encoder: what made the vectors, by name or loaded: the index can then be searched by meaning, and documents
            that have not changed are skipped when a corpus is added later. A few documents are encoded again, and the
            import fails if their vectors are others. ``None`` if it is not known.
        kind: how vectors are searched; ``None`` for what the file brings, else ``auto``.
        language: of the texts; ``None`` for what the file brings, else ``english``.
        device: where the encoder runs, and FAISS if it sees a GPU there; ``None`` for the best there is.

    Raises:
        UsageError: a setting makes no sense, or not with these vectors.
        InputError: the vectors cannot be read, or do not fit the documents.
        CorpusError: a document has no row or several, or the vectors are not those of the encoder.
        EncoderError: the encoder cannot be found or loaded.
    """
    vectors = Path(vectors)
    if vectors.suffix not in (".npy", ".parquet"):
        raise UsageError(f"must be a .parquet or .npy file, not {vectors}", field="vectors")
    if (vectors.suffix == ".npy") != (documents is not None):
        reason = "must be given for the rows of an .npy file, and for no other: a .parquet file brings its own"
        raise UsageError(reason, field="documents")
    settings: dict[str, Any] = {"kind": kind, "language": language}
    settings = {name: value for name, value in settings.items() if value is not None}
    IndexSettings(**settings)  # complains of wrong ones
    loaded = record = None
    if isinstance(encoder, str):
        from llm2comp_apps.encoder import encoder_record, load_encoder

        loaded = load_encoder(encoder, device=device)
        record = encoder_record(loaded, encoder)
    elif encoder is not None:
        loaded, record = encoder, {"name": encoder.name, "fingerprint": encoder.fingerprint}
    importer = _Importer(Path(path), loaded, record, settings, index_device(device))
    return importer.parquet(vectors) if documents is None else importer.matrix(vectors, documents)


@dataclass(frozen=True, slots=True)
class _Importer:
    """Makes an index of ready vectors.

    Attributes:
        path: where the index goes; nothing is left there if the import fails.
        encoder: what made the vectors, if it is known.
        encoder_record: what the index remembers of it.
        settings: for ``Index.create``; they go before those that a file brings.
        device: where a FAISS index is trained, ``cpu`` or ``cuda``.
    """

    path: Path
    encoder: TextEncoder | None = None
    encoder_record: Mapping[str, str] | None = None
    settings: Mapping[str, Any] | None = None
    device: str = "cpu"

    def matrix(self, vectors_path: Path, documents: Iterable[Document]) -> ImportReport:
        """Import a ``.npy`` matrix and the documents of its rows.

        Each document takes the row of its id if a file of ids lies beside the matrix (see ``row_ids``), else the rows
        are in the order of the documents.

        Args:
            vectors_path: ``(rows, d)``.
            documents: one for each row, streamed.

        Raises:
            InputError: the matrix cannot be read, or has more or fewer rows than there are documents.
            CorpusError: a document has no row or several, or the vectors are not those of the encoder.
            UsageError: their width is not the encoder's, or two files of ids lie beside the matrix.
        """
        from llm2comp_indexes import pair_in_order, read_vectors

        vectors = read_vectors(vectors_path)
        ids_path = find_ids_file(vectors_path)
        plan = EmbeddingPlan(prompt=self._prompt)
        indexed = self._indexed(documents, plan)
        batches = (
            pair_in_order(indexed, vectors) if ids_path is None else _by_id(indexed, vectors, ids_path, vectors_path)
        )
        return self._fill(vectors_path, batches, vectors.shape, plan, {})

    def parquet(self, parquet_path: Path) -> ImportReport:
        """Import a Parquet file with an id and a vector, such as `index export` and `encode` write.

        Args:
            parquet_path: the file; ``title``, ``text``, ``metadata``, ``start`` and ``end`` are read if they are
                there, as are the settings of the index that it was exported from. Further columns are metadata.

        Raises:
            InputError: the file cannot be read, lacks a column, or is empty.
            CorpusError: the vectors are not those of the encoder.
            UsageError: their width is not the encoder's.
        """
        from llm2comp_indexes import InputError, read_parquet, read_parquet_settings, unread_columns

        settings = read_parquet_settings(parquet_path)
        exported = EmbeddingPlan.from_settings({"prompt": self._prompt, **settings})
        plan = replace(exported, memory=False)
        batches = read_parquet(parquet_path)
        first = next(batches, None)
        if first is None:
            raise InputError(f"{parquet_path}: has no rows")
        batches = chain([first], batches)
        if exported != plan and self.encoder is not None:
            batches = _rehashed(batches, exported, plan, self.encoder.fingerprint)
        report = self._fill(parquet_path, batches, (_rows(parquet_path), first[1].shape[1]), plan, settings)
        if unread := unread_columns(parquet_path):
            report.warnings.append(f"{parquet_path}: binary columns not read: {', '.join(unread)}")
        if exported.memory:
            report.warnings.append("memory vectors are not in the file; a build with `memory` stores them again")
        return report

    @property
    def _prompt(self) -> str:
        return self.encoder.prompts.get("document", "") if self.encoder is not None else ""

    def _indexed(self, documents: Iterable[Document], plan: EmbeddingPlan) -> Iterator[IndexedDocument]:
        from llm2comp_indexes import IndexedDocument

        for document in documents:
            check_document(document)
            content_hash = plan.content_hash(document, self.encoder.fingerprint) if self.encoder is not None else ""
            yield IndexedDocument(
                document.id, document.text, document.title, document.metadata, content_hash=content_hash
            )

    def _fill(
        self,
        source: Path,
        batches: Iterable[Batch],
        shape: tuple[int, ...],
        plan: EmbeddingPlan,
        settings: Mapping[str, Any],
    ) -> ImportReport:
        """Make the index of a file, in one commit."""
        from llm2comp_indexes import Index, InputError

        rows, dimension = shape
        count = 0
        settings = {**settings, **plan.to_settings(), **(self.settings or {})}
        if self.encoder is not None:
            batches = SpotCheck(self.encoder, plan, rows).passing(batches)
        with self._made(dimension, settings) as index, _named(source), index.writer(self.device) as writer:
            for documents, vectors in batches:
                writer.add(documents, vectors)
                count += len(documents)
            if writer.documents != count:
                raise InputError(
                    f"{count - writer.documents} ids stand on several rows that are not next to each other"
                )
            writer.commit()
        with Index.open(self.path) as index:
            warnings = [refusal_line(index, writer.refusal)] if writer.refusal else []
        if self.encoder is None:
            warnings.append(_BY_WORDS_ONLY)
        return ImportReport(count, writer.refusal, warnings)

    @contextmanager
    def _made(self, dimension: int, settings: Mapping[str, Any]) -> Iterator[Index]:
        """A new index, removed again if what follows fails before its commit."""
        from llm2comp_indexes import Index

        if self.encoder is not None and self.encoder.dimension != dimension:
            raise UsageError(
                f"the vectors have {dimension} dimensions, those of the encoder {self.encoder.name} "
                f"{self.encoder.dimension}"
            )
        record = self.encoder_record or UNKNOWN_ENCODER
        index = Index.create(self.path, dimension=dimension, encoder=record, settings=settings)
        try:
            yield index
        except BaseException:
            remove_unfilled(index)
            raise


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Name the file in errors about what it holds: the index knows rows and documents only."""
    from llm2comp_indexes import InputError

    try:
        yield
    except InputError as error:
        if str(error).startswith(str(source)):
            raise
        raise InputError(f"{source}: {error}") from error


def _by_id(
    documents: Iterable[IndexedDocument], vectors: np.ndarray, ids_path: Path, vectors_path: Path
) -> Iterator[Batch]:
    """Documents with their vectors, which are the rows that the file of ids names."""
    import numpy as np

    with closing(RowIds(ids_path)) as row_ids:
        if len(row_ids) != len(vectors):
            raise CorpusError(f"{ids_path}: {len(row_ids)} ids for the {len(vectors)} rows of {vectors_path}")
        for batch in batched(documents, _BATCH):
            rows = row_ids.take([document.id for document in batch])
            yield batch, np.asarray(vectors[rows], dtype=np.float32)
        row_ids.check_all_taken()


def _rehashed(
    batches: Iterable[Batch], exported: EmbeddingPlan, plan: EmbeddingPlan, fingerprint: str
) -> Iterator[Batch]:
    """Documents with the content hashes of another plan, those that are as they were when they were encoded."""
    for documents, vectors in batches:
        renewed = []
        for document in documents:
            source = Document(document.id, document.text, document.title, document.metadata)
            if document.content_hash == exported.content_hash(source, fingerprint):
                document = replace(document, content_hash=plan.content_hash(source, fingerprint))
            renewed.append(document)
        yield renewed, vectors


def _rows(parquet_path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(parquet_path).num_rows)
