"""Loading without the library's own progress bars: ours say what a person waits for, and no log needs theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_progress_bars"]


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No bars of transformers inside; what was set before is set again."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
