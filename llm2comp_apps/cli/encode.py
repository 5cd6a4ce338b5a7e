"""``llm2comp encode``: the vectors of documents in a file, for other programs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples
from llm2comp_apps.cli.options.reading import CorpusArgument, with_reading
from llm2comp_apps.cli.ui.console import note, print_json
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration
from llm2comp_apps.cli.ui.reading import describe_reading
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import CorpusError, LLM2CompError, UsageError

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.encoder import TextEncoder
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["register"]

_ROW_GROUP = 8192  # rows of a parquet row group, and the most that are held for one
_SUFFIXES = (".npy", ".parquet")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "encode",
        epilog=examples(
            "llm2comp encode corpus.jsonl -o corpus.npy",
            "llm2comp encode sentences.txt --format lines -o sentences.parquet",
            "llm2comp encode queries.jsonl --role query -o queries.npy",
        ),
    )(encode)


@with_reading
def encode(
    corpus: CorpusArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where to: .npy (ids beside it in .ids.txt) or .parquet."),
    ],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="What the texts are to the encoder: document or query.")
    ] = "document",
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Write the vector of each document, in the order of the corpus.

    Vectors are float32 of unit length. An .npy file opens with numpy.load(FILE, mmap_mode="r"); line i of the
    .ids.txt file beside it has the id of row i. A .parquet file has the columns id and embedding.
    """
    from llm2comp_apps.cli._open import load_named_encoder
    from llm2comp_apps.corpus import ReadReport, read_corpus

    if output.suffix not in _SUFFIXES:
        raise UsageError(f"--output {output}: the name must end in {' or '.join(_SUFFIXES)}")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    _check_targets(output, corpus)
    report = ReadReport()
    documents = read_corpus(corpus, reading, report)  # complains of missing files before a model is loaded
    model = load_named_encoder(encoder or "default", device)
    start = time.perf_counter()
    count = 0
    with ProgressDisplay("encoding", "documents") as progress, _writer(output, model) as writer:
        for ids, vectors in encoded(model, documents, role):
            with _on_disk(output):
                writer.write(ids, vectors)
            count += len(ids)
            progress.update(count, report.fraction)
    describe_reading(report)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(
            {
                "output": str(output),
                "vectors": count,
                "dimension": model.dimension,
                "encoder": model.name,
                "fingerprint": model.fingerprint,
                "seconds": round(seconds, 3),
            }
        )
    note(f"{output}: {count} vectors of {model.dimension} dimensions by {model.name}, in {format_duration(seconds)}")


def encoded(encoder: TextEncoder, documents: Iterator[Document], role: str) -> Iterator[tuple[list[str], FloatArray]]:
    """Encode a stream of documents, holding as many of them as the encoder's window.

    Args:
        encoder: any.
        documents: what to encode.
        role: ``document`` or ``query``: the key of the encoder's prompt.

    Yields:
        Ids and their vectors ``(m, d)``, in the order of the documents.

    Raises:
        UsageError: no such role.
    """
    roles = {"document", "query", *encoder.prompts}
    if role not in roles:
        raise UsageError(f"--role {role!r} is not one of {', '.join(sorted(roles))}")
    waiting: deque[str] = deque()  # ids of the documents that the encoder has taken and not yet given back

    def texts() -> Iterator[str]:
        for document in documents:
            waiting.append(document.id)
            yield document.content

    for vectors in encoder.encode_stream(texts(), prompt=encoder.prompts.get(role) or None):
        yield [waiting.popleft() for _ in range(len(vectors))], vectors


def _targets(output: Path) -> list[Path]:
    return [output, output.with_suffix(".ids.txt")] if output.suffix == ".npy" else [output]


def _check_targets(output: Path, corpus: Sequence[str]) -> None:
    """Refuse to write over the texts, or among them, where a second call would read the vectors as documents.

    Raises:
        UsageError: a file to write is one of the corpus, or lies in a folder of it.
    """
    for target in (path.resolve() for path in _targets(output)):
        for name in corpus:
            source = Path(name).resolve()
            if name != "-" and (target == source or (source.is_dir() and source in target.parents)):
                place = "is" if target == source else "lies in"
                raise UsageError(f"--output {output}: {target.name} {place} {name}, which is read; write elsewhere")


class _Writer(Protocol):
    def write(self, ids: Sequence[str], vectors: FloatArray) -> None: ...

    def close(self) -> None: ...


@contextmanager
def _writer(output: Path, encoder: TextEncoder) -> Iterator[_Writer]:
    """A writer of the format that the name says; the files appear when all is written, or not at all."""
    kind = _NpyWriter if output.suffix == ".npy" else _ParquetWriter
    targets = _targets(output)
    partial = [target.with_name(f".{target.name}.partial") for target in targets]
    try:
        with _on_disk(output):
            writer: _Writer = kind(partial, encoder)
        try:
            yield writer
        except BaseException:
            with suppress(OSError):
                writer.close()
            raise
        with _on_disk(output):
            writer.close()
            for path, target in zip(partial, targets, strict=True):
                path.replace(target)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


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
