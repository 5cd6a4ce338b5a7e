"""Log lines of the rooms below, shown to people as notes."""

from __future__ import annotations

import logging

from llm2comp_apps.cli.ui.console import note

__all__ = ["show_log"]


def show_log(name: str) -> None:
    """Show what the logger of a package says from now on, each line as a note on stderr."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(_Notes())
        logger.setLevel(logging.INFO)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())
