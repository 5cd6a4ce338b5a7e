"""What a person reads about GPUs and FAISS."""

from __future__ import annotations

from llm2comp_apps.cli.ui.console import note
from llm2comp_apps.cli.ui.log import show_log

__all__ = ["describe_index_device"]


def describe_index_device(device: str | None) -> None:
    """Say where FAISS works if a GPU was asked for: at once for the CPU, and as its log lines come for GPUs."""
    if device is None or not device.startswith("cuda"):
        return
    from llm2comp_apps.retrieval.gpus import index_device

    if index_device(device) == "cpu":
        note("FAISS sees no GPU (its GPU wheel is pip install 'llm2comp-apps[gpu]'): the index works on the CPU")
        return
    show_log("llm2comp_indexes")
