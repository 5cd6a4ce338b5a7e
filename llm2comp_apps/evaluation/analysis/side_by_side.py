"""The analysis of several encoders with its files: what ``llm2comp eval analyze`` does, from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import EvaluationError, LLM2CompError, UsageError
from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.analysis.plots import write_plots
from llm2comp_apps.evaluation.analysis.study import Study, analyze, poolings_table, studies_table
from llm2comp_apps.evaluation.datasets import PairData
from llm2comp_apps.evaluation.table import System, parse_systems
from llm2comp_apps.evaluation.tasks import StsTask, Task
from llm2comp_apps.files import check_writable, write_text
from llm2comp_apps.text_table import TextTable

__all__ = ["Analysis", "analyze_encoders"]


@dataclass(slots=True)
class Analysis:
    """What was found.

    Attributes:
        pairs: the STS set whose sentences were looked at.
        tasks: on which poolings were compared.
        studies: of each encoder that could be analysed.
        failures: ``LABEL: reason`` of each that could not.
        files: what was written.
        warnings: what is missing in ``files``, a line each.
    """

    pairs: Task[Any]
    tasks: list[Task[Any]]
    studies: list[Study] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def tables(self) -> list[TextTable]:
        """One row an encoder; then the poolings of those with memory vectors."""
        poolings = [poolings_table(study) for study in self.studies if study.poolings]
        return [studies_table(self.studies), *poolings] if self.studies else []

    def to_json(self) -> dict[str, Any]:
        """The content of ``analysis.json``."""
        return {
            "pairs": {"task": self.pairs.name, **self.pairs.settings},
            "tasks": {task.name: task.settings for task in self.tasks},
            "studies": [study.to_json() for study in self.studies],
            "failures": self.failures,
        }


def analyze_encoders(
    encoders: Sequence[str],
    pairs: Task[Any],
    tasks: Sequence[Task[Any]],
    out: Path,
    *,
    backbone: str | None = None,
    device: str | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> Analysis:
    """Analyse each encoder; write numbers and plots.

    Args:
        encoders: ``NAME`` or ``LABEL=NAME``.
        pairs: an STS set: its sentences are the sample, its best-scored pairs the positives.
        tasks: on which the poolings of memory vectors are compared; may be none.
        out: folder of ``analysis.json``, written after each encoder, and of the plots.
        backbone: see :func:`llm2comp_apps.encoder.load_encoder`.
        device: ``cpu``, ``cuda``...; ``None`` for the best there is.
        on_start: called with the label of each encoder and the number of pairs.

    Raises:
        UsageError: ``pairs`` is no STS set.
        OSError: nothing can be written to ``out``.
    """
    if not isinstance(pairs, StsTask):
        raise UsageError(f"{pairs.name} is a {pairs.category} task; choose an STS set", field="pairs")
    systems = parse_systems(encoders)
    check_writable(out / "analysis.json", folder=True)
    data = pairs.load()
    found = Analysis(pairs, list(tasks))
    for system in systems:
        try:
            found.studies.append(_study(system, data, tasks, backbone, device, on_start))
        except LLM2CompError as error:
            found.failures.append(f"{system.label}: {error}")
            continue
        _write(found, out)  # each time: a study takes long, and the next may not come to its end
    if found.studies:
        _write(found, out)
        try:
            found.files += write_plots(found.studies, out)
        except EvaluationError as error:
            found.warnings.append(f"no plots: {error}")
    return found


def _study(
    system: System,
    data: PairData,
    tasks: Sequence[Task[Any]],
    backbone: str | None,
    device: str | None,
    on_start: Callable[[str, int], None] | None,
) -> Study:
    """Of one encoder, which is gone before the next one is loaded."""
    encoder = load_system(system.spec, backbone=backbone, device=device)
    if not isinstance(encoder, TextEncoder):
        raise EvaluationError("has no embeddings to analyse")
    if on_start is not None:
        on_start(system.label, len(data.gold))
    return analyze(system.label, encoder, data, tasks)


def _write(found: Analysis, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "analysis.json"
    write_text(path, json.dumps(found.to_json(), indent=1))
    found.files = [path]
