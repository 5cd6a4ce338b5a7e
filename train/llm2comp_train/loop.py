"""The training loop: one file, top to bottom.

A step is a pure function of (weights, optimiser state, seed, step number): batches are drawn from the step number and
the random state is set from it too. So a run that was interrupted - ctrl-C, SIGTERM, kill -9 - and resumed from its
last checkpoint goes through the losses of one that was not.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import TrainingError
from llm2comp_train import checkpoints
from llm2comp_train.adapters import trainable
from llm2comp_train.recipes import Settings
from llm2comp_train.steps import Outcome, Work

__all__ = ["Progress", "Run", "train"]

_METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Progress:
    """What is shown after a step; ``evaluation`` is that of the last one that was evaluated."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    evaluation: dict[str, float]


@dataclass(slots=True)
class Run:
    """A stage in training.

    Attributes:
        directory: see :mod:`.checkpoints`.
        network: with its adapter.
        settings: of the stage.
        work: accumulates the gradients of a step.
        export: writes the encoder as it stands into a directory.
        evaluate: figures of the encoder as it stands; ``score``, if among them, decides which one is the best.
        place: ``file:line`` of a row of the training data.
        show: is told of every step.
    """

    directory: Path
    network: CompressionNetwork
    settings: Settings
    work: Work
    export: Callable[[Path], None]
    evaluate: Callable[[], dict[str, float]]
    place: Callable[[int], str]
    show: Callable[[Progress], None]


def train(run: Run, *, resume: bool) -> int:
    """Train to the end of the stage, or to the next step after SIGINT or SIGTERM; returns the steps done.

    Raises:
        TrainingError: loss or gradient is not finite, the memory is dead, or the machine's memory ran out.
    """
    settings, parameters = run.settings, trainable(run.network)
    optimiser = torch.optim.AdamW(parameters.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    step = _restore(run, optimiser, parameters) if resume else 0
    log = _Log(run, step)
    with _StopRequest() as stop:
        while step < settings.max_steps and not stop.asked:
            begun = time.perf_counter()
            outcome, figures = _step(run, optimiser, parameters, step)
            step += 1
            log.stepped(step, outcome, figures, time.perf_counter() - begun)
            last = step == settings.max_steps
            evaluated = last or step % settings.eval_every == 0
            if evaluated:
                log.evaluated(step, _evaluate(run))
            if evaluated or stop.asked or step % settings.save_every == 0:
                _save(run, optimiser, parameters, step, log.kept)
            if evaluated:
                log.require_life(step)
    return step


def _step(
    run: Run, optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], step: int
) -> tuple[Outcome, dict[str, float]]:
    settings = run.settings
    torch.manual_seed(settings.seed * 1_000_003 + step)
    run.network.train()
    rate = settings.lr_at(step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    try:
        outcome = run.work.backward(step)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"step {step + 1}: out of memory; lower --tokens-per-pass (now {settings.tokens_per_pass}) or "
            f"--tokens-kept (now {settings.tokens_kept}), or add --gradient-checkpointing, and --resume."
        ) from error
    norm = float(nn.utils.clip_grad_norm_(list(parameters.values()), settings.clip_norm))
    if not (math.isfinite(outcome.loss) and math.isfinite(norm)):
        shown = ", ".join(map(run.place, outcome.rows[:8])) + (", ..." if len(outcome.rows) > 8 else "")
        raise TrainingError(
            f"step {step + 1}: the loss is {outcome.loss:g} and the gradient's norm {norm:g}. Its batch: {shown}. "
            f"Lower --lr (now {settings.lr:g}) or mend these rows; the last checkpoint is whole."
        )
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return outcome, {"lr": rate, "grad_norm": norm}


def _evaluate(run: Run) -> dict[str, float]:
    run.network.eval()
    return run.evaluate()


def _save(
    run: Run, optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], step: int, kept: set[int]
) -> None:
    state = {
        "step": step,
        "parameters": {name: parameter.detach().cpu() for name, parameter in parameters.items()},
        "optimiser": optimiser.state_dict(),
    }
    checkpoints.save(run.directory, step, state, run.export, kept)


def _restore(run: Run, optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> int:
    newest = checkpoints.latest(run.directory)
    if newest is None:
        return 0
    state = checkpoints.load_state(newest)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["parameters"][name])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


class _Log:
    """``metrics.jsonl``, which evaluation was best, whether the memory lives.

    Attributes:
        kept: steps whose encoders are kept, those evaluated.
    """

    def __init__(self, run: Run, step: int) -> None:
        self._run = run
        self._path = run.directory / _METRICS
        self._rate = 0.0
        rows = [row for row in _rows(self._path) if row["step"] <= step]  # what came after the checkpoint comes again
        self._path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self._evaluations = [row for row in rows if "loss" not in row]
        self.kept = {row["step"] for row in self._evaluations}

    def stepped(self, step: int, outcome: Outcome, figures: dict[str, float], seconds: float) -> None:
        self._write({"step": step, "loss": outcome.loss, **figures, "tokens": outcome.tokens, "seconds": seconds})
        self._rate = seconds if not self._rate else 0.95 * self._rate + 0.05 * seconds
        left = (self._run.settings.max_steps - step) * self._rate
        last = self._evaluations[-1] if self._evaluations else {}
        shown = {name: value for name, value in last.items() if name != "step"}
        self._run.show(
            Progress(step, self._run.settings.max_steps, outcome.loss, outcome.tokens / seconds, left, shown)
        )

    def evaluated(self, step: int, figures: dict[str, float]) -> None:
        self._evaluations.append({"step": step, **figures})
        self.kept.add(step)
        self._write(self._evaluations[-1])

    def require_life(self, step: int) -> None:
        """Stop a run whose memory vectors carry nothing.

        Raises:
            TrainingError: the gain of the last ``dead_after`` evaluations was under ``dead_gain``.
        """
        settings = self._run.settings
        gains = [row["gain"] for row in self._evaluations[-settings.dead_after :] if "gain" in row]
        if len(gains) == settings.dead_after and max(gains) < settings.dead_gain:
            raise TrainingError(
                f"step {step}: the memory is dead: the decoder does as well with another text's memory as with the "
                f"text's own (gain {gains[-1]:.3f}, wanted {settings.dead_gain:g}), so whatever the loss does, the "
                f"encoder learns nothing. Change --lr (now {settings.lr:g}), shorten --context, or raise --dead-after."
            )

    def _write(self, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def best_step(run: Path) -> int | None:
    """The evaluated step with the highest score; ``None`` if none has a score."""
    scored = [row for row in _rows(run / _METRICS) if "score" in row]
    return max(scored, key=lambda row: row["score"])["step"] if scored else None


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]  # a kill may have cut the last one short


class _StopRequest:
    """Turns SIGINT and SIGTERM into a request to stop after the step; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
