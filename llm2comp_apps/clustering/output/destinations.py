"""Where a result may be written: never over the documents it is made from, nor over anything that is not an old result.

All of this is asked before the first document is read, since what comes then may take hours. It is asked again when the
result is written, since much may have happened meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llm2comp_apps.clustering.sources import is_index
from llm2comp_apps.corpus.naming import beside
from llm2comp_apps.errors import ClusteringError, UsageError
from llm2comp_apps.files import check_writable

__all__ = [
    "COLUMNS",
    "MODEL",
    "TOPICS",
    "check_folder",
    "check_picture",
    "check_replaceable",
    "check_table",
    "choose_target",
    "on_disk",
    "table_files",
]

TOPICS = "topics.json"
MODEL = "model/model.json"
#: Of the table of documents; behind them, titles, texts and fields.
COLUMNS = ("_id", "cluster", "name", "probability", "second_cluster", "second_probability")
_LONGEST_ROW = 2**26  # bytes of a first line that may be one of ours
_NEVER_READ = ".clusters"  # a folder of this name among the documents is passed over


def choose_target(
    docs: Sequence[str], output: Path | None, *, model: Path | None = None, parquet: bool = False
) -> Path:
    """Where a result goes, asked before anything is read: as wanted, else beside what it is made from.

    Args:
        docs: what is going to be read: files, folders, an index, ``-``.
        output: as wanted.
        model: the folder of the clustering that assigns the documents, whose result is a table.
        parquet: see :func:`table_files`.

    Raises:
        UsageError: the documents lie in several places or in none; or see :func:`check_folder`, :func:`check_table`.
        ClusteringError: nothing can be written there.
    """
    target = output or _beside(docs, ".clusters" if model is None else ".clusters.jsonl")
    if model is None:
        check_folder(target, docs)
    else:
        check_table(target, docs, model, parquet=parquet)
    return target


def _beside(docs: Sequence[str], suffix: str) -> Path:
    if len(docs) > 1 or docs[0] == "-":
        raise UsageError("is needed to place the result of several corpora or of standard input", field="output")
    index = Path(docs[0])
    return index.with_name(index.name.removesuffix(".index") + suffix) if is_index(index) else beside(docs[0], suffix)


def check_folder(target: Path, docs: Sequence[str]) -> None:
    """Refuse a folder that a clustering of ``docs`` must not or cannot be written to.

    Args:
        target: the folder, which need not exist.
        docs: what is going to be read: files, folders, an index, ``-``.

    Raises:
        UsageError: something else is there; or it holds documents, or lies among them.
        ClusteringError: nothing can be written there.
    """
    check_replaceable(target)
    place = target.resolve()
    for name, source in _resolved(docs):
        if place in source.parents:
            raise UsageError(f"{target} holds {name} and would replace it; name another folder", field="output")
        _check_outside(target, name, source)
    with on_disk(target):
        check_writable(target, folder=True)


def check_table(target: Path, docs: Sequence[str], model: Path, *, parquet: bool = False) -> None:
    """Refuse a file that the topics of ``docs`` must not or cannot be written to.

    Args:
        target: the file, which need not exist.
        docs: what is going to be read: files, folders, an index, ``-``.
        model: the folder of the clustering that assigns them.
        parquet: see :func:`table_files`.

    Raises:
        UsageError: it is one of ``docs``, lies in a folder of them or in ``model``, or is no earlier result.
        ClusteringError: nothing can be written there.
    """
    for path in table_files(target, parquet=parquet):
        for name, source in _resolved(docs):
            if path.exists() and source.exists() and path.samefile(source):  # by whatever name or link
                raise UsageError(f"{path} is read as {name}; name another file", field="output")
            _check_outside(path, name, source)
        _check_outside(path, f"the clustering {model}", model.resolve())
        check_replaceable(path, table=True)
    with on_disk(target):
        check_writable(target)


def table_files(target: Path, *, parquet: bool = False) -> list[Path]:
    """The files of a table: the ending chooses the format.

    Args:
        target: ``.jsonl`` or ``.parquet``.
        parquet: a ``.parquet`` file beside a ``.jsonl`` one.

    Raises:
        UsageError: another ending.
    """
    suffix = target.suffix.lower()
    if suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"{target} must end in .jsonl or .parquet: assigned documents are one table", field="output")
    return [target, target.with_suffix(".parquet")] if parquet and suffix == ".jsonl" else [target]


def check_picture(target: Path) -> None:
    """Refuse a name of a map whose ending says neither page nor picture.

    Raises:
        UsageError: it ends in something else than ``.html`` and ``.png``.
    """
    if target.suffix.lower() not in (".html", ".png"):
        raise UsageError(f"must end in .html or .png, not {target.name}", field="path")


def check_replaceable(target: Path, *, table: bool = False) -> None:
    """Refuse to replace what is not an earlier result, and not empty either.

    Args:
        target: a folder; need not exist.
        table: a table of documents instead.

    Raises:
        UsageError: something else is at ``target``.
    """
    if table:
        if target.exists() and not _is_table(target):
            raise UsageError(f"{target} exists and is no table of documents; name another file", field="output")
    # Others write a topics.json, too (BERTopic), and what is replaced is gone.
    elif target.exists() and not _is_clustering(target) and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target} exists and is no clustering; name another folder", field="output")
    elif target.name in ("", ".."):
        raise UsageError(f"{target} has no name of its own; give the folder by its name", field="output")


def _is_clustering(target: Path) -> bool:
    return (target / TOPICS).is_file() and (target / MODEL).is_file()


@contextmanager
def on_disk(target: Path) -> Iterator[None]:
    """Name the target in errors of writing.

    Raises:
        ClusteringError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ClusteringError(f"{target}: cannot be written: {error.strerror or error}") from error


def _resolved(docs: Sequence[str]) -> list[tuple[str, Path]]:
    return [(name, Path(name).resolve()) for name in docs if name != "-"]


def _check_outside(target: Path, name: str, folder: Path) -> None:
    if folder not in target.resolve().parents or not folder.is_dir():
        return
    if is_index(folder) or not target.name.endswith(_NEVER_READ):
        raise UsageError(f"{target} lies in {name}, which is read; write the result elsewhere", field="output")


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    if not path.stat().st_size:
        return True
    return _columns(path)[: len(COLUMNS)] == COLUMNS


def _columns(path: Path) -> tuple[str, ...]:
    """The columns of a table of any program, or nothing if it is no table."""
    if path.suffix.lower() == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            return tuple(parquet.read_schema(path).names)
        except ArrowException:
            return ()
    with path.open("rb") as file:
        line = file.readline(_LONGEST_ROW)
    try:
        row = json.loads(line)
    except ValueError:
        return ()
    return tuple(row) if isinstance(row, dict) else ()
