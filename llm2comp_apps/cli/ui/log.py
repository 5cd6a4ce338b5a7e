"""Log lines of the rooms below, those of FAISS among them, shown to people as notes."""

from __future__ import annotations

import logging

from llm2comp_apps.cli.ui.console import note

__all__ = ["describe_index_device", "show_log"]


def show_log(name: str) -> None:
    """Show what the logger of a package says from now on, each line as a note on stderr."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(_Notes())
        logger.setLevel(logging.INFO)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def describe_index_device(device: str | None) -> None:
    """Say where FAISS works if a GPU was asked for: at once for the CPU, and as its log lines come for GPUs."""
    if device is None or not device.startswith("cuda"):
        return
    from llm2comp_apps.retrieval.gpus import index_device

    if index_device(device) == "cpu":
        note("FAISS sees no GPU (its GPU wheel is pip install 'llm2comp-apps[gpu]'): the index works on the CPU")
        return
    show_log("llm2comp_indexes")
