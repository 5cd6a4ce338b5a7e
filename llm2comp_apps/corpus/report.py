"""What happened while a corpus was read: the counts, and the rows that were left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import DAMAGED, FOREIGN, place_of
from llm2comp_apps.errors import CorpusError

__all__ = ["FOLDER", "MAX_LISTED", "KindCount", "PassedOver", "ReadReport", "SkippedRow"]

MAX_LISTED = 100  # a report of a corpus that is broken throughout must not grow with it
FOLDER = "folder"
_MAX_FILES = 10_000
_KINDS_NAMED = 5  # in the summary
_NAMED = 5  # files in a line


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A broken record: where it is (``path:line``) and why it cannot be used."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file of a folder that gave no document.

    Attributes:
        path: the file.
        kind: its format or suffix.
        why: one of :data:`~llm2comp_apps.corpus.records.WHY`.
        reason: the same in full.
        id: what its document would be called, and how the ids of its parts would begin; empty where nobody can tell,
            for records have ids of their own, and a folder may hold anything.
        line: where in it the trouble is; 0 if that is the whole file.
    """

    path: str
    kind: str
    why: str = DAMAGED
    reason: str = ""
    id: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{place_of(self.path, self.line)}: {self.reason}"


@dataclass(slots=True)
class KindCount:
    """Files of one kind that were read, and what they gave."""

    files: int = 0
    documents: int = 0


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
        kinds: what was read, by format.
        passed_over: files of folders that gave no document, each with the reason; the first 10,000 of them.
        unread: how many there were, by kind and by why.
        repeated: files that hold nothing but documents that came before; the first 10,000 of them.
        bare: files without any text; the first 10,000 of them.
        other_kinds: files in the folders whose names say that they are something else, by suffix.
        git_ignored: files and folders that a ``.gitignore`` keeps out.
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
    kinds: dict[str, KindCount] = field(default_factory=dict)
    passed_over: list[PassedOver] = field(default_factory=list)
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    other_kinds: Counter[str] = field(default_factory=Counter)
    git_ignored: int = 0
    notes: list[str] = field(default_factory=list)
    bytes_done: int = 0
    bytes_total: int | None = None

    @property
    def fraction(self) -> float | None:
        """Share of the corpus read so far, 0 to 1, for progress bars; ``None`` when the total is unknown."""
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else None

    @property
    def ignored_files(self) -> int:
        """Files in the folders whose names say that they are something else."""
        return self.other_kinds.total()

    def reject(self, place: str, reason: str, options: CorpusOptions) -> None:
        """Deal with a broken record of a file that was named as ``options.on_error`` says: raise, or count and list it.

        Raises:
            CorpusError: ``options.on_error`` is not ``"skip"``.
        """
        if options.on_error != "skip":
            raise CorpusError(f"{place}: {reason} (`on_error=skip` leaves such records out)")
        self.skip(place, reason)

    def skip(self, place: str, reason: str) -> None:
        """Count and list a broken record."""
        self.skipped += 1
        if len(self.skipped_rows) < MAX_LISTED:
            self.skipped_rows.append(SkippedRow(place, reason))

    def pass_over(self, file: PassedOver) -> None:
        """Count and list a file that gave no document."""
        self.unread[file.kind, file.why] += 1
        if len(self.passed_over) < _MAX_FILES:
            self.passed_over.append(file)

    def count(self, kind: str, *, files: int = 0, documents: int = 0) -> None:
        """Count what was read of a kind."""
        found = self.kinds.setdefault(kind, KindCount())
        found.files += files
        found.documents += documents

    def note(self, line: str) -> None:
        """Remember ``line`` once."""
        if line not in self.notes and len(self.notes) < MAX_LISTED:
            self.notes.append(line)

    def give_nothing(self, name: str, *, repeats: bool) -> None:
        """List a file that is as it should be and gave no document."""
        names = self.repeated if repeats else self.bare
        if len(names) < _MAX_FILES:
            names.append(name)

    def remarks(self) -> list[str]:
        """Lines about things that are no error: the notes, and which files gave nothing."""
        lines = list(self.notes)
        for what, names in (("no text", self.bare), ("nothing that did not come before", self.repeated)):
            if names:
                more = f" and {len(names) - _NAMED} more files" if len(names) > _NAMED else ""
                lines.append(f"{what} in {', '.join(names[:_NAMED])}{more}")
        return lines

    def record(self) -> dict[str, Any]:
        """What was read, by format, and which files gave nothing, as JSON has it."""
        return {
            "kinds": {kind: asdict(count) for kind, count in self.kinds.items()},
            "passed_over": [asdict(file) for file in self.passed_over],
            "bare": self.bare,
            "repeated": self.repeated,
            "other_kinds": dict(self.other_kinds),
        }

    def summary(self) -> str:
        """One line for people: ``5183 documents from 1 file; left out: 2 empty, 1 broken``."""
        parts = [f"{count} {word}" for count, word in self._left_out() if count]
        read = self.files - sum(count for (kind, _), count in self.unread.items() if kind != FOLDER)
        line = f"{_number(self.documents, 'document')} from {_number(read, 'file')}"
        return f"{line}; left out: {', '.join(parts)}" if parts else line

    def warnings(self) -> list[str]:
        """A line for each broken record and for each file that is not as it should be, and how many more there are."""
        lines = [f"{row}; left out" for row in self.skipped_rows]
        if self.skipped > len(lines):
            lines.append(f"... and {self.skipped - len(lines)} more broken records")
        files = [f"{file}; passed over" for file in self.passed_over if file.why != FOREIGN]
        more = sum(count for (_, why), count in self.unread.items() if why != FOREIGN) - len(files)
        return [*lines, *files, *([f"... and {more} more files"] if more else [])]

    def untold(self) -> str:
        """Why nobody can tell which documents have not been read; empty where that can be told by their ids."""
        if self.skipped:
            records = "1 record" if self.skipped == 1 else f"{self.skipped} records"
            return f"{records} could not be read, and may be what seems to be gone"
        unread = [file for file in self.passed_over if file.why != FOREIGN]
        nameless = next((file for file in unread if not file.id), None)
        if nameless is not None:
            return f"{nameless.path} could not be read, and may hold what seems to be gone"
        if sum(count for (_, why), count in self.unread.items() if why != FOREIGN) > len(unread):
            return "too many files could not be read to remember them all"
        return ""

    def foreign(self) -> list[PassedOver]:
        """Files that are as they should be, and no corpus: settings, tables without texts."""
        return [file for file in self.passed_over if file.why == FOREIGN]

    def _left_out(self) -> tuple[tuple[int, str], ...]:
        named = [f"{suffix or 'no suffix'} {count}" for suffix, count in self.other_kinds.most_common(_KINDS_NAMED)]
        more = "" if len(self.other_kinds) <= _KINDS_NAMED else ", ..."
        other = "file of another kind" if self.ignored_files == 1 else "files of other kinds"
        unread = "file without a document" if self.unread.total() == 1 else "files without a document"
        return (
            (self.empty, "empty"),
            (self.duplicates, "duplicate"),
            (self.skipped, "broken"),
            (self.unread.total(), unread),
            (self.ignored_files, f"{other} ({', '.join(named)}{more})"),
            (self.git_ignored, "kept out by .gitignore"),
        )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
