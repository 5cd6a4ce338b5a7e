"""Look into embedding spaces: dimension collapse, alignment and uniformity, what each memory vector adds."""

from __future__ import annotations

from llm2comp_apps.evaluation.analysis.geometry import Geometry, measure_geometry
from llm2comp_apps.evaluation.analysis.memory import PooledMemory, memory_correlation
from llm2comp_apps.evaluation.analysis.side_by_side import Analysis, analyze_encoders
from llm2comp_apps.evaluation.analysis.spectrum import Spectrum, measure_spectrum
from llm2comp_apps.evaluation.analysis.study import Study, analyze

__all__ = [
    "Analysis",
    "Geometry",
    "PooledMemory",
    "Spectrum",
    "Study",
    "analyze",
    "analyze_encoders",
    "measure_geometry",
    "measure_spectrum",
    "memory_correlation",
]
