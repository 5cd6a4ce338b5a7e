"""Progress of long work on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, stderr_console
from llm2comp_apps.stopping import StopRequest

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from llm2comp_apps.clustering.embedding import ClusterProgress
    from llm2comp_apps.encoder.progress import EncodingProgress

__all__ = ["ProgressDisplay", "format_duration", "show_encoding", "show_steps", "stop_when_asked"]

#: Seconds between two plain lines.
LINE_INTERVAL = 5.0
_STOPPING = b"\nStopping after this batch, which will be kept; ctrl-C again stops at once.\n"


class ProgressDisplay:
    """Shows how far a piece of work is; use it as a context manager.

    Args:
        label: what is being done: ``encoding``.
        unit: what is counted: ``documents``.
        total: how many there are; ``None`` if that is not known.
    """

    def __init__(self, label: str, unit: str, total: int | None = None) -> None:
        self._label = label
        self._unit = unit
        self._total = total
        self._start = time.monotonic()
        self._last_line = self._start
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressDisplay:
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Progress(*columns, console=stderr_console(), transient=True)
            self._task = self._bar.add_task(self._label, total=None, state="")  # until it is known how much is done
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, fraction: float | None = None) -> None:
        """Report.

        Args:
            done: units done so far.
            fraction: share of the work that is done, 0 to 1, where units differ in size; ``None`` goes by units.
        """
        if fraction is None and self._total:
            fraction = done / self._total
        if fraction is not None:
            fraction = min(fraction, 1.0)
        state = self._state(done, fraction)
        if self._bar is not None and self._task is not None:
            total = None if fraction is None else 1.0
            self._bar.update(self._task, completed=fraction or 0.0, total=total, state=state)
        elif time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            note(f"{self._label}: {state}")

    def encoded(self, progress: EncodingProgress) -> None:
        """Report what an encoder tells."""
        self._total = progress.total
        self.update(progress.done, progress.fraction)

    def _state(self, done: int, fraction: float | None) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        counted = f"{done}/{self._total}" if self._total is not None else f"{done}"
        state = f"{counted} {self._unit}, {done / elapsed:.1f}/s"
        if fraction:
            state += f", {format_duration(elapsed * (1 - fraction) / fraction)} left"
        return state


@contextmanager
def show_encoding() -> Iterator[None]:
    """Show how far each piece of work is that encoders do inside."""
    from llm2comp_apps.encoder.progress import watch_encoding

    with ExitStack() as stack:
        display: ProgressDisplay | None = None
        before = 0

        def show(progress: EncodingProgress) -> None:
            nonlocal display, before
            if display is None or progress.done < before or not progress.done:  # a new one
                stack.close()
                display = stack.enter_context(ProgressDisplay(progress.step, progress.unit))
            before = progress.done
            display.encoded(progress)

        with watch_encoding(show):
            yield


@contextmanager
def show_steps() -> Iterator[Callable[[ClusterProgress], None]]:
    """Show work of several steps: a bar while documents are encoded, a line for each other step."""
    with ExitStack() as stack:
        bar: ProgressDisplay | None = None

        def show(progress: ClusterProgress) -> None:
            nonlocal bar
            if not progress.total:
                stack.close()
                bar = None
                note(progress.step)
                return
            bar = bar or stack.enter_context(ProgressDisplay(progress.step, "documents", progress.total))
            bar.update(progress.done, progress.fraction)

        yield show


def stop_when_asked() -> StopRequest:
    """The first ctrl-C or SIGTERM as a question that the work asks when it can stop; a second ctrl-C interrupts it."""
    # Not print: a handler may run in the middle of another print, and buffered streams cannot be re-entered.
    return StopRequest(lambda: os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _STOPPING))


def format_duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
