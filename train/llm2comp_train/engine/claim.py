"""Whose directory is it: ``run.json`` says what the run in it was started with."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import UsageError
from llm2comp_train.engine.metrics import METRICS
from llm2comp_train.settings import Settings

__all__ = ["check_claim", "claim", "claim_of", "run_name"]

FREE = ("tokens_per_pass", "tokens_kept", "head_chunk", "gradient_checkpointing", "dead_after", "dead_gain")
"""Settings that a resumed run may change: what is learned does not depend on them. Memory may have run out."""


def claim_of(
    stage: str, settings: Settings, *, data: Sequence[str], init: Path | None, instructions: Mapping[str, str]
) -> dict[str, Any]:
    """What ``run.json`` is to say."""
    return {
        "stage": stage,
        "data": list(data),
        "init": str(init) if init else None,
        "instructions": dict(instructions),
        **dataclasses.asdict(settings),
    }


def check_claim(out: Path, wanted: Mapping[str, Any], *, resume: bool) -> None:
    """Check that ``out`` is free, or holds the run to continue.

    A run that broke off before its first step, at a misspelt option, say, has nothing to continue: it does not count.

    Raises:
        UsageError: it holds a run and ``resume`` is not set, or one that was started with other settings.
    """
    before = _claimed(out)
    if before is None or not _has_begun(out):
        return
    if not resume:
        raise UsageError(f"{out} already holds a run; add `resume` to continue it", field="out")
    changed = [name for name, value in wanted.items() if before[name] != value and name not in FREE]
    if changed:
        raise UsageError(
            f"is refused: the run in {out} was started with other values of {', '.join(changed)}; give the same ones "
            "again, or another `out`",
            field="resume",
        )


def claim(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write ``run.json``, in place of that of a run that never began; see :func:`check_claim`."""
    before = _claimed(out)
    if before is not None and _has_begun(out):
        return
    if before is not None and before != wanted:
        shutil.rmtree(out / "data", ignore_errors=True)  # token ids that the other call made
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(wanted, indent=2) + "\n", "utf-8")


def run_name(out: Path) -> str:
    """What the encoder of a run is called, so that people can tell it from others: ``scl-2026-11-26``.

    The date is that of the run's start, whenever it is resumed; a stage of a chain, ``demo/2-scl``, has both names.
    """
    folder = out.resolve()
    name = f"{folder.parent.name}-{folder.name}" if re.match(r"\d+-", folder.name) else folder.name
    started = datetime.fromtimestamp((out / "run.json").stat().st_mtime, tz=UTC)
    return f"{name}-{started:%Y-%m-%d}"


def _claimed(out: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, if there is one; a setting that it does not know is younger and had its default."""
    path = out / "run.json"
    if not path.is_file():
        return None
    return dataclasses.asdict(Settings()) | json.loads(path.read_text("utf-8"))


def _has_begun(out: Path) -> bool:
    """Whether a step of the run is behind it."""
    metrics = out / METRICS
    return (metrics.is_file() and metrics.stat().st_size > 0) or (out / "checkpoints").is_dir()
