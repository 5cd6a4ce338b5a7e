"""Other engines that take what an index holds: one file each, and :mod:`.export`, which fills them and checks them."""

from __future__ import annotations

from llm2comp_apps.retrieval.engines.export import ENGINES, EngineExport, export_to

__all__ = ["ENGINES", "EngineExport", "export_to"]
