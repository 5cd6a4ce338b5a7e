"""How topics look on a terminal and in a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llm2comp_apps.cli.ui.console import note, stdout_console
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.cli.ui.text import printable

if TYPE_CHECKING:
    from llm2comp_apps.clustering import Clustering, TopicModel, TopicUpdate
    from llm2comp_apps.clustering.embedding import ClusterProgress

__all__ = ["ClusterDisplay", "print_table", "show_assigned", "show_topics", "show_update"]

_SNIPPET = 200
_CENTRAL = "most central document"
_NUMBERS = ("topic", "documents", "share", "added")


class ClusterDisplay:
    """Shows what a clustering does: a bar while documents are encoded, a line for each other step."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: ProgressDisplay | None = None

    def __enter__(self) -> ClusterDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def update(self, progress: ClusterProgress) -> None:
        """Show what is being done now."""
        if not progress.total:
            self._stack.close()
            self._bar = None
            note(progress.step)
            return
        if self._bar is None:
            self._bar = self._stack.enter_context(ProgressDisplay(progress.step, "documents"))
        self._bar.update(progress.done, progress.done / progress.total)


def show_topics(found: Clustering) -> None:
    """Print the topics of a clustering, and its scores."""
    from llm2comp_apps.clustering.output.report import SCORE_NAMES, outlier_policy_effect

    n = len(found.labels)
    rows = []
    for topic in found.base_topics:
        central = found.source.documents[topic.representatives[0]].content
        share = f"{topic.size / n:.1%}"
        rows.append((str(topic.id), str(topic.size), share, topic.name, " ".join(central[:_SNIPPET].split())))
    outliers = int((found.labels < 0).sum())
    rows.append(("", str(outliers), f"{outliers / n:.1%}", "(outliers)", ""))
    print_table(("topic", "documents", "share", "name", _CENTRAL), rows)
    if found.settings.method == "hdbscan":
        stdout_console().print(outlier_policy_effect(found), soft_wrap=True)
    for name, score in found.scores.items():
        if name != "outlier_share":
            stdout_console().print(f"{SCORE_NAMES[name]}: {score:.3f}", soft_wrap=True)


def show_assigned(rows: Sequence[dict[str, Any]], names: dict[int, str]) -> None:
    """Print how many documents were assigned to each topic."""
    sizes = Counter(row["cluster"] for row in rows)
    lines = [(str(id_), str(sizes[id_]), name) for id_, name in names.items()]
    print_table(("topic", "documents", "name"), [*lines, ("", str(sizes[-1]), "(outliers)")])


def show_update(report: TopicUpdate, model: TopicModel) -> None:
    """Print which topics grew and which are new."""
    rows = []
    for topic in model.topics:
        if topic.id in report.new_topics:
            rows.append((str(topic.id), str(topic.size), "new", topic.name))
        elif topic.id in report.grown:
            rows.append((str(topic.id), str(topic.size), f"+{report.grown[topic.id]}", topic.name))
    outliers = int((model.labels < 0).sum())
    rows.append(("", str(outliers), f"+{report.outliers}" if report.outliers else "", "(outliers)"))
    print_table(("topic", "documents", "added", "name"), rows)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table as wide as the terminal; control characters of documents are left out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, expand=True)
    for name in header:
        if name in _NUMBERS:
            table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        else:
            table.add_column(name, ratio=1, no_wrap=name == _CENTRAL, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: brackets in documents are no markup
    stdout_console().print(table)
