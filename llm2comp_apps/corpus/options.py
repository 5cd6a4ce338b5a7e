"""How a corpus is read: every option, documented once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from llm2comp_apps.corpus.readers import READERS
from llm2comp_apps.errors import UsageError

__all__ = [
    "DATA_FORMATS",
    "ENCODING_ERRORS",
    "FORMATS",
    "ID_FIELDS",
    "ON_ERROR",
    "RECORD_FORMATS",
    "TEXT_FIELDS",
    "TITLE_FIELDS",
    "CorpusOptions",
    "find_field",
]

DATA_FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "txt", "md", "lines")
RECORD_FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "lines")  # many documents a file, with ids of their own
FORMATS = ("auto", *DATA_FORMATS, "rst", "code", *READERS)
ENCODING_ERRORS = ("strict", "replace")
ON_ERROR = ("auto", "stop", "skip")

# Looked for in this order when no field is named. BEIR, MS MARCO, Pyserini and Hugging Face dumps use these.
ID_FIELDS = ("_id", "id", "doc_id", "docid", "docno")
TITLE_FIELDS = ("title", "headline")
TEXT_FIELDS = ("text", "contents", "content", "body", "passage", "abstract")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """Options of :func:`llm2comp_apps.corpus.read_corpus` and :func:`~llm2comp_apps.corpus.read_records`.

    Attributes:
        format: one of :data:`FORMATS`; ``auto`` goes by the file's name, then by its content. ``lines`` (one document
            a line) is never guessed. In a folder, ``auto`` reads the files whose names say what they are, any other
            format reads every file that is not hidden.
        id_field: the field that holds the id; ``None`` takes the first of :data:`ID_FIELDS` that a record has. A record
            without the field that is named here is a broken one. All names of fields are found in any case.
        title_field: the same for the title, :data:`TITLE_FIELDS`, but a record may do without.
        text_field: the same for the text, :data:`TEXT_FIELDS`. Several names with commas between them: the text is
            what these fields hold, a line each; a record may do without some of them.
        encoding: the text encoding of every file but parquet. A byte order mark is removed, and UTF-16 is recognised
            by its own.
        encoding_errors: what a character that no text has (bytes that are not valid in ``encoding``, half a surrogate
            pair, NUL) does to its record: ``strict`` makes it a broken one, ``replace`` puts U+FFFD in its place.
        on_error: ``stop`` raises at the first broken record, ``skip`` counts and lists it and continues. ``auto`` stops
            where a file was named, and skips where a folder brought it along.
        max_record_chars: a record (a line, a JSON value, a text file) longer than this is a broken one; it bounds
            memory against files that are not what they seem.
        folder_in_ids: the id of a file that is one document is its path, from the folder that was named
            (``notes/a.md``). ``False`` leaves that folder's name out, as version 0.1 did.
        gitignore: leave out of folders what their ``.gitignore`` files leave out.
        pages: each page of a PDF, slide of a presentation and chapter of a book is a document, and not the whole file.
        max_seconds: a file is passed over that takes longer over one of its parts, such as a page of a PDF, a chapter
            of a book, a row of a table or the whole of a text; unpacking it is a piece of the first part. Standard
            input and pipes may take their time, and so may parquet.
    """

    format: str = "auto"
    id_field: str | None = None
    title_field: str | None = None
    text_field: str | None = None
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    on_error: str = "auto"
    max_record_chars: int = 64 * 2**20
    folder_in_ids: bool = True
    gitignore: bool = True
    pages: bool = False
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what no reader understands.

        Raises:
            UsageError: an option has a value outside its set.
        """
        _one_of("format", self.format, FORMATS)
        _one_of("encoding_errors", self.encoding_errors, ENCODING_ERRORS)
        _one_of("on_error", self.on_error, ON_ERROR)
        try:
            "".encode(self.encoding)  # finds the codec, and refuses those that are not of text
        except (LookupError, UnicodeError):
            reason = f"must be a text encoding that Python knows, not {self.encoding!r}"
            raise UsageError(reason, field="encoding") from None
        if self.max_seconds <= 0:
            raise UsageError(f"must be above 0, not {self.max_seconds:g}", field="max_seconds")
        if self.max_record_chars < 1:
            raise UsageError(f"must be at least 1, not {self.max_record_chars}", field="max_record_chars")

    @property
    def id_fields(self) -> tuple[str, ...]:
        """The names under which a record may carry its id."""
        return (self.id_field,) if self.id_field else ID_FIELDS

    @property
    def title_fields(self) -> tuple[str, ...]:
        """The names under which a record may carry its title."""
        return (self.title_field,) if self.title_field else TITLE_FIELDS

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The names under which a record may carry its text."""
        return (self.text_field,) if self.text_field else TEXT_FIELDS

    @property
    def joined_fields(self) -> tuple[str, ...]:
        """The fields that make the text together, where ``text_field`` names several."""
        names = tuple(name.strip() for name in (self.text_field or "").split(",") if name.strip())
        return names if len(names) > 1 else ()

    def known(self, names: Iterable[str]) -> int:
        """How many of the names mean something here; tells a record from a mapping of ids, a header from a text."""
        known = {*self.id_fields, *self.title_fields, *self.text_fields, *self.joined_fields}
        return len(_folded(known).keys() & _folded(names).keys())

    @property
    def plain_format(self) -> str:
        """What content of no known form is read as."""
        return "txt"


def find_field(names: Collection[str], looked_for: Iterable[str]) -> str:
    """The first of the names looked for, as it is spelled among ``names``: exactly so, else in another case.

    Returns:
        ``""`` if there is none.
    """
    wanted = tuple(looked_for)
    exact = next((name for name in wanted if name in names), "")
    if exact:
        return exact
    folded = _folded(names)
    return next((folded[name.casefold()] for name in wanted if name.casefold() in folded), "")


def _folded(names: Iterable[str]) -> dict[str, str]:
    return {name.casefold(): name for name in names}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"must be one of {', '.join(allowed)}, not {value!r}", field=name)
