"""How a training run shows itself on stderr: a bar on a terminal, a plain line every few steps elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, stderr_console
from llm2comp_apps.cli.ui.progress import format_duration

if TYPE_CHECKING:
    from llm2comp_train.engine.loop import Progress

__all__ = ["show_training"]

_EVERY = 10
"""Steps between two plain lines."""


@contextmanager
def show_training() -> Iterator[Callable[[Progress], None]]:
    """Show loss, speed, time left and the last evaluation, by a function that is called after every step."""
    if not sys.stderr.isatty():
        yield _note_step
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    bar = Bar(*columns, console=stderr_console(), transient=True)
    task, evaluation = bar.add_task("", total=None, state=""), ""

    def show(progress: Progress) -> None:
        nonlocal evaluation
        bar.start()  # with the first step: until then other things have their say
        bar.update(task, completed=progress.step, total=progress.steps, state=_state(progress))
        if _figures(progress) != evaluation:
            evaluation = _figures(progress)
            bar.console.print(f"step {progress.step}  {evaluation}", highlight=False)

    try:
        yield show
    finally:
        bar.stop()


def _note_step(progress: Progress) -> None:
    if progress.step % _EVERY == 0 or progress.step in (1, progress.steps):
        parts = [f"step {progress.step}/{progress.steps}", _state(progress), _figures(progress)]
        note("  ".join(part for part in parts if part))


def _state(progress: Progress) -> str:
    left = format_duration(progress.seconds_left)
    return f"loss {progress.loss:.4f}  {progress.tokens_per_second:.0f} tokens/s  {left} left"


def _figures(progress: Progress) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in progress.evaluation.items())
