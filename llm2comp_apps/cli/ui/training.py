"""How a training run shows itself on stderr: a bar on a terminal, a plain line every few steps elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, stderr_console
from llm2comp_apps.cli.ui.progress import format_duration

if TYPE_CHECKING:
    from llm2comp_train.engine.loop import Progress
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["TrainingDisplay"]

_EVERY = 10
"""Steps between two plain lines."""


class TrainingDisplay:
    """Shows loss, speed, time left and the last evaluation; use it as a context manager, call it after every step.

    Each stage of a chain starts a new bar.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._evaluation: dict[str, float] = {}

    def __enter__(self) -> TrainingDisplay:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
            self._bar = RichProgress(*columns, console=stderr_console(), transient=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show a step."""
        if self._bar is None:
            self._line(progress)
            return
        self._bar.start()  # with the first step: until then other things have their say
        if self._task is None:
            self._task = self._bar.add_task("", total=progress.steps, state="")
        self._bar.update(self._task, completed=progress.step, total=progress.steps, state=_state(progress))
        if progress.evaluation != self._evaluation:
            self._evaluation = progress.evaluation
            self._bar.console.print(f"step {progress.step}  {_figures(progress)}", highlight=False)

    def _line(self, progress: Progress) -> None:
        if progress.step % _EVERY == 0 or progress.step in (1, progress.steps):
            parts = [f"step {progress.step}/{progress.steps}", _state(progress), _figures(progress)]
            note("  ".join(part for part in parts if part))


def _state(progress: Progress) -> str:
    left = format_duration(progress.seconds_left)
    return f"loss {progress.loss:.4f}  {progress.tokens_per_second:.0f} tokens/s  {left} left"


def _figures(progress: Progress) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in progress.evaluation.items())
