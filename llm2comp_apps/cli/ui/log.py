"""Log lines of the rooms below, those of FAISS among them, shown to people as notes."""

from __future__ import annotations

import logging

from llm2comp_apps.cli.ui.console import note
from llm2comp_apps.files import why

__all__ = ["describe_index_device", "hide_logs", "show_log"]

_shown: dict[logging.Logger, tuple[logging.Handler, int]] = {}  # with the level that each had


def show_log(name: str) -> None:
    """Show what the logger of a package says from now on, each line as a note on stderr."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        _shown[logger] = (_Notes(), logger.level)
        logger.addHandler(_shown[logger][0])
        logger.setLevel(logging.INFO)


def hide_logs() -> None:
    """Leave the loggers as they were: what runs after the command may be a program with handlers of its own."""
    while _shown:
        logger, (handler, level) = _shown.popitem()
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage() + why(record.exc_info[1] if record.exc_info else None))


def describe_index_device(device: str | None) -> None:
    """Say where FAISS works if a GPU was asked for: at once for the CPU, and as its log lines come for GPUs."""
    if device is None or not device.startswith("cuda"):
        return
    from llm2comp_apps.retrieval.gpus import index_device

    if index_device(device) == "cpu":
        note("FAISS sees no GPU (its GPU wheel is pip install 'llm2comp-apps[gpu]'): the index works on the CPU")
        return
    show_log("llm2comp_indexes")
