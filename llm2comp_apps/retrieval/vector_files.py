"""Vectors of documents in a file, for other programs.

=============  =========================================================================================
``.npy``       float32 ``(n, d)``, opened by ``numpy.load(path, mmap_mode="r")``; line i of the file beside
               it, ``NAME.ids.txt``, has the id of row i
``.parquet``   the columns ``id`` and ``embedding`` (a list of d float32); the encoder's name and fingerprint
               in the metadata of the schema
=============  =========================================================================================

Files are written as the documents come and appear when all is written, or not at all. Memory does not grow with the
corpus.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llm2comp_apps.encoder.progress import EncodingMeter, ProgressCallback
from llm2comp_apps.encoder.protocol import CountsCut, LimitsLength
from llm2comp_apps.errors import CorpusError, LLM2CompError, UsageError
from llm2comp_apps.files import check_writable, replaced_file

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document, ReadReport
    from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder

__all__ = ["VectorReport", "check_output", "encode_documents", "write_vectors"]

_ROW_GROUP = 8192  # rows of a parquet row group, and the most that are held for one


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorReport:
    """What was written.

    Attributes:
        output: the file.
        vectors: how many.
        dimension: of each.
        encoder: the encoder's name.
        fingerprint: the encoder's.
        seconds: of encoding and writing.
        warnings: what a reader of the vectors should know, a line each.
    """

    output: Path
    vectors: int
    dimension: int
    encoder: str
    fingerprint: str
    seconds: float
    warnings: tuple[str, ...] = ()


def write_vectors(
    output: Path,
    documents: Iterable[Document],
    encoder: TextEncoder,
    *,
    role: str = "document",
    on_progress: ProgressCallback | None = None,
    read: ReadReport | None = None,
) -> VectorReport:
    """Write the vector of each document, in the order of the documents.

    Args:
        output: the file; the module says what its name decides.
        documents: what to encode.
        encoder: any.
        role: what the documents are to the encoder: ``document`` or ``query``, or another key of its prompts.
        on_progress: told after each batch how far it is.
        read: the report of whoever reads the documents, which tells how much of them is still to come.

    Raises:
        UsageError: the output makes no sense, or the encoder does not know the role.
        CorpusError: from the documents; or an id that the file cannot hold.
        LLM2CompError: the file cannot be written.
    """
    check_output(output)
    start, count = time.perf_counter(), 0
    cut_before = encoder.cut if isinstance(encoder, CountsCut) else 0
    share = None if read is None else lambda: read.fraction
    encoded = encode_documents(encoder, documents, role, EncodingMeter(encoder, on_progress, share=share))
    with _writer(output, encoder) as writer:
        for ids, vectors in encoded:
            with _on_disk(output):
                writer.write(ids, vectors)
            count += len(ids)
    cut = encoder.cut - cut_before if isinstance(encoder, CountsCut) else 0
    return VectorReport(
        output=output,
        vectors=count,
        dimension=encoder.dimension,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        seconds=time.perf_counter() - start,
        warnings=(_cut_line(cut, encoder, role),) if cut else (),
    )


def check_output(output: Path, sources: Sequence[str] = ()) -> None:
    """Refuse an output that cannot be, before anything is loaded.

    Args:
        output: where vectors shall be written.
        sources: files and folders that the documents are read from. Over them nothing is written, nor into one of
            their folders, where a later reading would take the vectors for documents.

    Raises:
        UsageError: why it cannot be.
        LLM2CompError: nothing can be written there.
    """
    if output.suffix not in _WRITERS:
        raise UsageError(f"{output}: the name must end in {' or '.join(_WRITERS)}", field="output")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}", field="output")
    for target in (path.resolve() for path in _targets(output)):
        if target.is_dir():
            raise UsageError(f"{output}: {target.name} is a folder", field="output")
        for name in sources:
            source = Path(name).resolve()
            if name != "-" and (target == source or (source.is_dir() and source in target.parents)):
                place = "is" if target == source else "lies in"
                reason = f"{output}: {target.name} {place} {name}, which is read; write elsewhere"
                raise UsageError(reason, field="output")
    for target in _targets(output):
        with _on_disk(target):
            check_writable(target)


def encode_documents(
    encoder: TextEncoder, documents: Iterable[Document], role: str = "document", meter: EncodingMeter | None = None
) -> Iterator[tuple[list[str], FloatArray]]:
    """Encode a stream of documents, holding as many of them as the encoder's window.

    Args:
        encoder: any.
        documents: what to encode.
        role: see :func:`write_vectors`.
        meter: encodes with it and reports; by default nothing is reported.

    Returns:
        Ids and their vectors ``(m, d)``, block by block in the order of the documents.

    Raises:
        UsageError: the encoder does not know the role; at the call.
    """
    roles = {"document", "query", *encoder.prompts}
    if role not in roles:
        raise UsageError(f"must be one of {', '.join(sorted(roles))}, not {role!r}", field="role")
    return _encoded(meter or EncodingMeter(encoder, None), documents, encoder.prompts.get(role) or None)


def _encoded(
    meter: EncodingMeter, documents: Iterable[Document], prompt: str | None
) -> Iterator[tuple[list[str], FloatArray]]:
    waiting: deque[str] = deque()  # ids of the documents that the encoder has taken and not yet given back

    def texts() -> Iterator[str]:
        for document in documents:
            waiting.append(document.id)
            yield document.content

    for vectors in meter.stream(texts(), prompt=prompt):
        yield [waiting.popleft() for _ in range(len(vectors))], vectors


def _cut_line(cut: int, encoder: TextEncoder, role: str) -> str:
    many = "texts are" if cut > 1 else "text is"
    limit = f"{encoder.room(encoder.prompts.get(role))} tokens" if isinstance(encoder, LimitsLength) else "its limit"
    return f"{cut} {many} longer than {limit}, of which {encoder.name} reads the beginning only"


def _targets(output: Path) -> list[Path]:
    return [output, output.with_suffix(".ids.txt")] if output.suffix == ".npy" else [output]


class _Writer(Protocol):
    def write(self, ids: Sequence[str], vectors: FloatArray) -> None: ...

    def close(self) -> None: ...


@contextmanager
def _writer(output: Path, encoder: TextEncoder) -> Iterator[_Writer]:
    """A writer of the format that the name says; the files appear when all is written, or not at all."""
    with ExitStack() as stack:
        with _on_disk(output):
            fresh = [stack.enter_context(replaced_file(target)) for target in _targets(output)]
            writer = _WRITERS[output.suffix](fresh, encoder)
        try:
            yield writer
        except BaseException:
            with suppress(OSError):
                writer.close()
            raise
        with _on_disk(output):
            writer.close()
            stack.close()


@contextmanager
def _on_disk(output: Path) -> Iterator[None]:
    """Name the file in errors of writing, which carry none of their own when the disk is full."""
    try:
        yield
    except OSError as error:
        raise LLM2CompError(f"{output}: cannot be written: {error.strerror or error}") from error


class _NpyWriter:
    """One float32 array, streamed: numpy's header leaves room for the row count to grow, and is written again last."""

    def __init__(self, paths: Sequence[Path], encoder: TextEncoder) -> None:
        self._dimension = encoder.dimension
        self._rows = 0
        self._array = paths[0].open("wb")
        self._ids = paths[1].open("w", encoding="utf-8")
        self._write_header()

    def write(self, ids: Sequence[str], vectors: FloatArray) -> None:
        for id_ in ids:
            if "\n" in id_ or "\r" in id_:
                raise CorpusError(f"the id {id_!r} has a line break, which an .ids.txt file cannot hold; use .parquet")
            self._ids.write(id_ + "\n")
        self._array.write(vectors.tobytes())
        self._rows += len(vectors)

    def close(self) -> None:
        self._array.seek(0)
        self._write_header()
        self._array.close()
        self._ids.close()

    def _write_header(self) -> None:
        from numpy.lib import format as npy

        shape = (self._rows, self._dimension)
        npy.write_array_header_1_0(self._array, {"descr": "<f4", "fortran_order": False, "shape": shape})


class _ParquetWriter:
    """Columns ``id`` and ``embedding`` (a list of fixed size), a row group at a time."""

    def __init__(self, paths: Sequence[Path], encoder: TextEncoder) -> None:
        import pyarrow
        from pyarrow import parquet

        self._dimension = encoder.dimension
        columns = {"id": pyarrow.string(), "embedding": pyarrow.list_(pyarrow.float32(), encoder.dimension)}
        made_by = {"encoder": encoder.name, "fingerprint": encoder.fingerprint}
        self._schema = pyarrow.schema(columns).with_metadata(made_by)
        # Vectors hardly compress, and dictionaries of floats only cost time.
        self._file = parquet.ParquetWriter(paths[0], self._schema, compression="none", use_dictionary=False)
        self._ids: list[str] = []
        self._vectors: list[FloatArray] = []

    def write(self, ids: Sequence[str], vectors: FloatArray) -> None:
        self._ids += ids
        self._vectors.append(vectors)
        if len(self._ids) >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        import numpy as np
        import pyarrow

        if self._ids:
            flat = pyarrow.array(np.concatenate(self._vectors).ravel())
            embeddings = pyarrow.FixedSizeListArray.from_arrays(flat, self._dimension)
            self._file.write_table(pyarrow.table([pyarrow.array(self._ids), embeddings], schema=self._schema))
            self._ids, self._vectors = [], []


_WRITERS: dict[str, Callable[[Sequence[Path], TextEncoder], _Writer]] = {".npy": _NpyWriter, ".parquet": _ParquetWriter}
