"""A run's directory, written so that a crash leaves the old checkpoint or the new one, never half of one.

run.json                       the resolved settings
run.lock                       held while a process trains here
data/                          the training texts as token ids
metrics.jsonl                  one line per step, one per evaluation
checkpoints/step-000200/       an encoder that can be used as it is, and
state.pt      what a resumed run continues with: float32 weights, optimiser, step
encoder/                       the result: the best encoder, or, without evaluation, the last one
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from llm2comp_apps.errors import TrainingError
from llm2comp_apps.files import replaced_folder

__all__ = ["KEEP", "latest", "latest_step", "load_state", "save"]

KEEP = 2
"""Checkpoints from which a run can be resumed."""
STATE = "state.pt"


def save(run: Path, step: int, state: dict[str, Any], export: Callable[[Path], None], keep_encoders: set[int]) -> None:
    """Write ``checkpoints/step-N``.

    Args:
        run: the run's directory.
        step: N.
        state: tensors and plain values, for :func:`load_state`.
        export: writes the encoder into a directory.
        keep_encoders: steps whose encoders stay when they are no longer among the last :data:`KEEP` checkpoints.

    Raises:
        OSError: it cannot be written; the checkpoints before it stay.
    """
    folder = run / "checkpoints"
    with replaced_folder(folder / f"step-{step:06d}") as fresh:
        export(fresh)
        _write_state(state, fresh / STATE)
    for old in _by_step(run)[:-KEEP]:
        if _step(old) in keep_encoders:
            (old / STATE).unlink(missing_ok=True)
        else:
            shutil.rmtree(old)


def _write_state(state: dict[str, Any], path: Path) -> None:
    """Let a full disk be one: of a path PyTorch says only that some stream is at an unexpected place."""
    try:
        with path.open("wb") as out:
            torch.save(state, out)
    except (OSError, RuntimeError) as error:
        found = error if isinstance(error, OSError) else error.__context__
        if not isinstance(found, OSError):
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


def latest(run: Path) -> Path | None:
    """The newest checkpoint that a run can be resumed from."""
    whole = [path for path in _by_step(run) if (path / STATE).is_file()]
    return whole[-1] if whole else None


def latest_step(run: Path) -> int:
    """The step of that checkpoint; 0 where there is none."""
    newest = latest(run)
    return 0 if newest is None else _step(newest)


def _by_step(run: Path) -> list[Path]:
    found = [path for path in (run / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=_step)  # by number: a million has a digit more


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def load_state(directory: Path) -> dict[str, Any]:
    """The saved state; tensors and plain values only, never code.

    Raises:
        TrainingError: the file cannot be read.
    """
    path = directory / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise TrainingError(f"{path}: damaged; delete {directory} to resume from the checkpoint before.") from error
    return state
