"""Where training rows come from: files, folders, globs; and what a row of each kind looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from llm2comp_apps.corpus import Record, read_records
from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, format_suffix, readable_once
from llm2comp_apps.corpus.options import DATA_FORMATS
from llm2comp_apps.errors import CorpusError, TrainingError

__all__ = ["DataFile", "Row", "find_data", "pair_rows", "sentence_rows", "single_rows", "text_rows"]

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(\[])")
_SHORTEST_SENTENCE = 20
_ALL = 1_000_000
_PATIENCE = 20  # seconds
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*){0,2}")
_COLUMNS = {"sentence": "text", "anchor": "query", "question": "query", "answer": "positive"}
"""What common datasets call the fields that are read here."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file or dataset; ``scl`` takes each as a task of its own.

    Attributes:
        name: for name patterns and messages; without folders, but for those below the folder that was named.
        source: what means this one alone, as :func:`find_data` takes it.
        records: opens it; each call reads from the start.
    """

    name: str
    source: str
    records: Callable[[], Iterator[Record]]


@dataclass(frozen=True, slots=True)
class Row:
    """Texts that belong together.

    Attributes:
        texts: one text; or query, positive, and any number of hard negatives.
        line: where in its file it came from.
        prompt: what the network reads in front of the first text; equal texts are equal whatever their prompts.
    """

    texts: tuple[str, ...]
    line: int
    prompt: str = ""


def find_data(sources: Sequence[str], *, once: bool = False) -> list[DataFile]:
    """The data files of a call, sorted within each source: files, folders, globs, datasets of the hub.

    Args:
        sources: what the user named.
        once: the caller reads each file once, so that pipes will do. Training may read its data again: the next stage
            of a chain, a choice of layers.

    Raises:
        TrainingError: a source does not exist, holds nothing, or cannot be read as often as it has to be.
    """
    files: list[DataFile] = []
    for source in sources:
        if readable_once(source):
            if source == "-" or not once:
                raise TrainingError(
                    f"`data` {source}: can be read only once, and training may read its data again; write them to a "
                    "file first."
                )
            files.append(_local(Path(source)))
            continue
        files += [_hub(source)] if _is_hub_id(source) else _paths(source)
    if not files:
        raise TrainingError("no training data; `data` names files, folders, globs or datasets of the Hugging Face hub.")
    names = [file.name for file in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        where = ", ".join(file.source for file in files if file.name == twice)
        raise TrainingError(
            f"two data files are called {twice} ({where}), which is how they are told apart; rename one."
        )
    return files


def _paths(source: str) -> list[DataFile]:
    path = Path(source).expanduser()
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.is_file() and _holds_rows(file.relative_to(path)))
        return [_local(file, file.relative_to(path).as_posix()) for file in below] or _nothing(source)
    if path.is_file():
        found = [path]
    else:
        pattern = path.relative_to(path.anchor)
        try:
            found = sorted(match for match in Path(path.anchor or ".").glob(str(pattern)) if match.is_file())
        except ValueError as error:  # a**b
            raise TrainingError(f"`data` {source}: {error}.") from error
    return [_local(match) for match in found] or _nothing(source)


def _holds_rows(path: Path) -> bool:
    """Whether a file of a folder is training data; in subfolders, where anything may lie, its name has to say so."""
    if path.name.startswith("README") or any(part.startswith(".") for part in path.parts):
        return False
    return len(path.parts) == 1 or FORMAT_BY_SUFFIX.get(format_suffix(path.name)) in DATA_FORMATS


def _nothing(source: str) -> list[DataFile]:
    raise TrainingError(f"`data` {source}: no such file or folder, no file matches, or the folder is empty.")


def _local(path: Path, name: str = "") -> DataFile:
    return DataFile(name or path.name, str(path), lambda: read_records([str(path)]))


def _is_hub_id(source: str) -> bool:
    is_file_name = any(suffix in FORMAT_BY_SUFFIX for suffix in Path(source).suffixes)
    return bool(_HUB_ID.fullmatch(source)) and not is_file_name and not Path(source).parent.is_dir()


def _hub(source: str) -> DataFile:
    """A dataset of the Hugging Face hub, ``OWNER/NAME[:CONFIGURATION[:SPLIT]]``, streamed."""
    name, _, rest = source.partition(":")
    configuration, _, split = rest.partition(":")

    def records() -> Iterator[Record]:
        try:
            import datasets
        except ImportError as error:
            raise TrainingError(
                f"`data` {source}: datasets of the hub need: pip install 'llm2comp-apps[train]'."
            ) from error
        try:
            _require_hub(name)
            rows = datasets.load_dataset(name, configuration or None, split=split or "train", streaming=True)
            for line, row in enumerate(rows, start=1):
                fields = {_COLUMNS.get(key, key): value for key, value in row.items()}
                if fields.get("text") != "":  # WikiText has an empty line for every line break
                    yield Record(fields, source, line)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"{source} is no file, and as a dataset of the Hugging Face hub it cannot be read ({reason}); name "
                "files or folders of your own as `data`."
            ) from error

    return DataFile("--".join(filter(None, (*name.split("/"), configuration, split))), source, records)


def _require_hub(name: str) -> None:
    """Ask the hub for a dataset once, since ``datasets`` would ask an unreachable one for half a minute.

    Raises:
        OSError: no answer; an answer that refuses is left to ``datasets`` to explain.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        urlopen(f"{constants.ENDPOINT}/api/datasets/{name}", timeout=_PATIENCE).close()  # noqa: S310 - the hub's address
    except HTTPError as answer:
        answer.close()


def text_rows(records: Iterable[Record], shortest: int = 1) -> Iterator[Row]:
    """``{"text"}`` records of at least ``shortest`` characters.

    Raises:
        CorpusError: a record without a text, by file and line.
    """
    for record in records:
        text = _text(record, "text")
        if len(text) >= shortest:
            yield Row((text,), record.line)


def sentence_rows(records: Iterable[Record]) -> Iterator[Row]:
    """The sentences of ``{"text"}`` records, each a row; very short ones (titles, list numbers) are left out."""
    for row in text_rows(records):
        for sentence in _SENTENCE_END.split(row.texts[0]):
            if len(sentence) >= _SHORTEST_SENTENCE:
                yield Row((sentence,), row.line)


def pair_rows(records: Iterable[Record], prompt: str, negatives: int) -> Iterator[Row]:
    """``{"query", "positive", "negative"?}`` records; ``negative`` is a text or a list of texts.

    Args:
        records: of one file.
        prompt: of each query.
        negatives: hard negatives to keep of each row.

    Raises:
        CorpusError: a field is missing or no text, by file and line.
    """
    for record in records:
        hard = record.fields.get("negative") or []
        hard = [hard] if isinstance(hard, str) else hard
        if not isinstance(hard, list) or not all(isinstance(text, str) for text in hard):
            raise CorpusError(f"{record.place}: the field 'negative' is neither a text nor a list of texts")
        kept = [text for text in hard if text.strip()][:negatives]
        yield Row((_text(record, "query"), _text(record, "positive"), *kept), record.line, prompt)


def single_rows(
    records: Iterable[Record], prompt: str, shortest: int = 1, *, pieces: str = "texts", joined: int = 0
) -> Iterator[Row]:
    """Every text of ``{"text"}`` records, and both sides and the negatives of pairs, each a row of its own, once.

    Args:
        records: of one file.
        prompt: of each query.
        shortest: least number of characters.
        pieces: of a ``text``: ``texts`` for the whole, ``sentences`` for each of these, or ``both``.
        joined: further rows, each of texts that follow one another and have so many characters together, or as many as
            one ``title`` has; 0 for none.

    Raises:
        CorpusError: a record with neither a text nor a pair, by file and line.
    """
    seen: set[bytes] = set()
    for row in _any_rows(records, prompt, pieces, joined):
        digest = hashlib.blake2b((row.prompt + row.texts[0]).encode(), digest_size=8).digest()
        if len(row.texts[0]) >= shortest and digest not in seen:
            seen.add(digest)
            yield row


def _any_rows(records: Iterable[Record], prompt: str, pieces: str, joined: int) -> Iterator[Row]:
    """As :func:`single_rows`, of any length and any number of times."""
    neighbours = _Neighbours(joined)
    for record in records:
        if "query" in record.fields or "positive" in record.fields:
            (row,) = pair_rows([record], prompt, negatives=_ALL)
            yield from (Row((text,), row.line, "" if place else prompt) for place, text in enumerate(row.texts))
            continue
        if pieces != "sentences":
            yield from text_rows([record])
        if pieces != "texts":
            yield from sentence_rows([record])
        if joined:
            yield from neighbours.add(record)
    yield from neighbours.rest()


class _Neighbours:
    """Rows of several texts that follow one another, see :func:`single_rows`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[str] = []
        self._line, self._title = 0, ""

    def add(self, record: Record) -> list[Row]:
        """Take the next text; what is full now, or ends here."""
        title = str(record.fields.get("title") or "")
        done = self.rest() if title != self._title else []
        if not self._texts:
            self._line, self._title = record.line, title
        self._texts.append(_text(record, "text"))
        return done + (self.rest() if sum(map(len, self._texts)) >= self._size else [])

    def rest(self) -> list[Row]:
        """What there is, if it is more than one text."""
        texts, self._texts = self._texts, []
        return [Row((" ".join(texts),), self._line)] if len(texts) > 1 else []


def _text(record: Record, field: str) -> str:
    value = record.fields.get(field)
    if not isinstance(value, str) or not value.strip():
        missing = "is null" if field in record.fields else "is not there"
        state = missing if value is None else "is empty" if isinstance(value, str) else "is not a text"
        have = ", ".join(map(repr, record.fields)) or "none"
        raise CorpusError(f"{record.place}: the field {field!r} {state} (its fields: {have})")
    return value
