"""What happened while a corpus was read: the counts, and the rows that were left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import CorpusError

__all__ = ["MAX_LISTED", "ReadReport", "SkippedRow"]

MAX_LISTED = 100  # a report of a corpus that is broken throughout must not grow with it


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A broken record: where it is (``path:line``) and why it cannot be used."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(slots=True)
class ReadReport:
    """Counts of one reading, filled while the documents stream by.

    Attributes:
        files: files opened so far.
        documents: documents handed out.
        empty: records with neither title nor text; left out, not an error.
        duplicates: records with the id and the content of an earlier one; left out, not an error.
        derived_ids: documents whose id was derived from their content.
        skipped: broken records left out (``on_error="skip"``).
        skipped_rows: the first :data:`MAX_LISTED` of them.
        ignored_files: files in the folders read whose names say that they are something else.
        notes: things worth a line that are no error, such as columns that were not read.
        bytes_done: bytes read so far, as stored (compressed where the files are).
        bytes_total: bytes of all files; ``None`` when one of the sources is standard input or a pipe.
    """

    files: int = 0
    documents: int = 0
    empty: int = 0
    duplicates: int = 0
    derived_ids: int = 0
    skipped: int = 0
    skipped_rows: list[SkippedRow] = field(default_factory=list)
    ignored_files: int = 0
    notes: list[str] = field(default_factory=list)
    bytes_done: int = 0
    bytes_total: int | None = None

    @property
    def fraction(self) -> float | None:
        """Share of the corpus read so far, 0 to 1, for progress bars; ``None`` when the total is unknown."""
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else None

    def reject(self, place: str, reason: str, options: CorpusOptions) -> None:
        """Deal with a broken record as ``options.on_error`` says: raise, or count and list it.

        Raises:
            CorpusError: ``options.on_error`` is ``"stop"``.
        """
        if options.on_error == "stop":
            raise CorpusError(f"{place}: {reason} (`on_error=skip` leaves such records out)")
        self.skipped += 1
        if len(self.skipped_rows) < MAX_LISTED:
            self.skipped_rows.append(SkippedRow(place, reason))

    def note(self, line: str) -> None:
        """Remember ``line`` once."""
        if line not in self.notes and len(self.notes) < MAX_LISTED:
            self.notes.append(line)

    def summary(self) -> str:
        """One line for people: ``5183 documents from 1 file; 2 empty and 1 broken left out``."""
        parts = [f"{count} {word}" for count, word in self._left_out() if count]
        line = f"{_number(self.documents, 'document')} from {_number(self.files, 'file')}"
        return f"{line}; left out: {', '.join(parts)}" if parts else line

    def warnings(self) -> list[str]:
        """The broken records that were left out, a line each, and how many more there are."""
        lines = [f"{row}; left out" for row in self.skipped_rows]
        more = self.skipped - len(lines)
        return [*lines, f"... and {more} more broken records"] if more else lines

    def _left_out(self) -> tuple[tuple[int, str], ...]:
        return (
            (self.empty, "empty"),
            (self.duplicates, "duplicate"),
            (self.skipped, "broken"),
            (self.ignored_files, "file of another kind" if self.ignored_files == 1 else "files of other kinds"),
        )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
