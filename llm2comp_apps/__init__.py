"""LLM2Comp: text embeddings by context compression, and search, reranking and clustering on top of them.

Heavy modules are imported on first use, so that ``import llm2comp_apps`` and the help of ``llm2comp`` stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["LLM2Comp", "__version__"]

if TYPE_CHECKING:
    from llm2comp_apps.encoder.model import LLM2Comp


def __getattr__(name: str) -> object:
    if name == "LLM2Comp":
        from llm2comp_apps.encoder.model import LLM2Comp

        return LLM2Comp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
