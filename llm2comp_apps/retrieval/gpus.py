"""Where FAISS works."""

from __future__ import annotations

__all__ = ["index_device"]


def index_device(device: str | None) -> str:
    """``cuda`` if such a device was asked for and FAISS sees a GPU, else ``cpu``.

    Args:
        device: as for an encoder; FAISS takes all GPUs together, or none.
    """
    if device is None or not device.startswith("cuda"):
        return "cpu"
    from llm2comp_indexes import gpu_count

    return "cuda" if gpu_count() else "cpu"
