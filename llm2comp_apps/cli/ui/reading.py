"""Reading documents, and what a person reads about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, stderr_console, warn
from llm2comp_apps.cli.ui.spelling import in_options
from llm2comp_apps.cli.ui.tables import rich_table
from llm2comp_apps.text_table import TextTable

if TYPE_CHECKING:
    from llm2comp_apps.corpus import CorpusOptions, Document, ReadReport

__all__ = ["describe_reading", "documents_of", "show_kinds"]

_NAMED = 2  # files that a row of the table names
_LISTED = 10  # files that are passed over since they are something else
_OTHER = 8  # kinds of other files with a row of their own


def documents_of(sources: Sequence[str], options: CorpusOptions) -> Iterator[Document]:
    """Stream documents; at their end, report on stderr what was read."""
    from llm2comp_apps.corpus import ReadReport, read_corpus

    report = ReadReport()
    yield from read_corpus(sources, options, report)
    describe_reading(report)
    show_kinds(report)


def describe_reading(report: ReadReport) -> None:
    """Report on stderr what was read, what was left out and why."""
    note(report.summary())
    for line in report.remarks():
        note(f"Note: {line}")
    warn(*report.warnings())
    foreign = report.foreign()
    for file in foreign[:_LISTED]:
        note(f"Passed over: {file}")
    if len(foreign) > _LISTED:
        note(f"... and {len(foreign) - _LISTED} more files that hold no documents")


def show_kinds(report: ReadReport) -> None:
    """Print on stderr a table of what was read, by kind, and of what was not, and why, where there is more to say."""
    rows = [
        (kind, f"{count.files}", f"{count.documents}", "")
        for kind, count in sorted(report.kinds.items(), key=lambda item: -item[1].documents)
    ]
    for (kind, why), files in report.unread.most_common():
        named = [Path(file.path).name for file in report.passed_over if (file.kind, file.why) == (kind, why)][:_NAMED]
        more = ", ..." if files > len(named) else ""
        rows.append((kind, f"{files}", "", f"{in_options(why)}: {', '.join(named)}{more}"))
    others = report.other_kinds.most_common()
    rows += [(suffix or "(no suffix)", f"{files}", "", "another kind of file") for suffix, files in others[:_OTHER]]
    if len(others) > _OTHER:
        rows.append(("(others)", f"{sum(files for _, files in others[_OTHER:])}", "", "other kinds of files"))
    if report.git_ignored:
        rows.append((".gitignore", f"{report.git_ignored}", "", "kept out; --no-gitignore reads them"))
    if len(rows) > 1:
        table = TextTable(header=("kind", "files", "documents", "not read"), rows=tuple(rows), numbers=(1, 2))
        stderr_console().print(rich_table(table))
