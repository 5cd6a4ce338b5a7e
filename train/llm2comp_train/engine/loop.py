"""The training loop: one file, top to bottom.

A step is a pure function of (weights, optimiser state, seed, step number): batches are drawn from the step number and
the random state is set from it too. So a run that was interrupted - ctrl-C, SIGTERM, kill -9 - and resumed from its
last checkpoint goes through the losses of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import TrainingError
from llm2comp_apps.stopping import StopRequest
from llm2comp_train.engine import checkpoints
from llm2comp_train.engine.adapters import trainable
from llm2comp_train.engine.machine import layers_of
from llm2comp_train.engine.metrics import MetricsLog
from llm2comp_train.engine.optimizers import Optimizers, optimizers_of
from llm2comp_train.engine.processes import Processes
from llm2comp_train.engine.sharding import placed_like, whole
from llm2comp_train.engine.work import Outcome, Work
from llm2comp_train.settings import Settings

__all__ = ["AgreedStop", "DivergedError", "Progress", "Run", "train"]

_ROWS_NAMED = 8
_LIMIT = {"adapter": 1, "memory": 1, "all": 3}
"""Steps in a row whose gradients are not finite that end a run, by the weights that train; fewer are skipped.

An adapter has no such steps unless the run is lost. All weights, trained in half-precision products, have a single one
at times.
"""
_SMOOTHING = 0.95


class DivergedError(TrainingError):
    """The run is lost with these settings: a loss or gradient that is not finite, or memory that is dead."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is shown after a step; ``evaluation`` is the last one."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    evaluation: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stage in training.

    Attributes:
        directory: see :mod:`.checkpoints`.
        settings: of the stage.
        network: with its adapter.
        processes: who shares the work.
        work: accumulates the gradients of a step.
        evaluate: figures of the encoder as it stands; ``score``, if among them, decides which one is the best.
        export: writes the encoder as it stands into a directory; ``None`` to help gather it only.
        place: ``file:line`` of a row of the training data.
        show: called after every step.
        tensorboard: write its files, too.
    """

    directory: Path
    settings: Settings
    network: CompressionNetwork
    processes: Processes
    work: Work
    evaluate: Callable[[], dict[str, float]]
    export: Callable[[Path | None], None]
    place: Callable[[int], str]
    show: Callable[[Progress], None]
    tensorboard: bool = False


def train(run: Run, stop: AgreedStop, *, resume: bool) -> int:
    """Train to the end of the stage, or to the next step after a request to stop; returns the steps done.

    Raises:
        DivergedError: loss or gradient is not finite, or the memory is dead (or was, when a run to resume ended).
        TrainingError: the machine's memory ran out.
    """
    settings, parameters = run.settings, trainable(run.network)
    optimiser = optimizers_of(run.network, parameters.values(), layers_of(run.network), settings)
    step = _restore(run, optimiser, parameters) if resume else 0
    log = MetricsLog(run.directory, settings, step, tensorboard=run.tensorboard) if run.processes.main else None
    _require_life(run, log, step)
    (skipped,) = map(int, run.processes.total(log.skipped if log else 0))
    pace = 0.0
    while step < settings.max_steps and not stop.agreed():
        begun = time.perf_counter()
        outcome, figures, skipped = _step(run, optimiser, parameters, step, skipped)
        step += 1
        seconds = time.perf_counter() - begun
        pace = _SMOOTHING * pace + (1 - _SMOOTHING) * seconds if pace else seconds
        evaluated = step == settings.max_steps or step % settings.eval_every == 0
        found = _evaluate(run) if evaluated else {}
        _require_finite(run, step, found, {})
        if log is not None:
            log.write({"step": step, **figures, "tokens": outcome.tokens, "seconds": seconds})
            if evaluated:
                log.write({"step": step, **found})
            _show(run, log, step, figures["loss"], outcome.tokens / seconds, pace)
        if evaluated or step % settings.save_every == 0:
            _save(run, optimiser, parameters, step, log)
        if evaluated:
            _require_life(run, log, step)
    if step < settings.max_steps:
        _save(run, optimiser, parameters, step, log)
    return step


def _step(
    run: Run, optimiser: Optimizers, parameters: dict[str, nn.Parameter], step: int, skipped: int
) -> tuple[Outcome, dict[str, Any], int]:
    """One step; returns what it did, its figures, and how many steps in a row were skipped up to this one."""
    settings, processes = run.settings, run.processes
    torch.manual_seed((settings.seed * 1_000_003 + step) * processes.world + processes.rank)
    run.network.train()
    rate = settings.lr_at(step)
    try:
        outcome = run.work.backward(step)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        raise TrainingError(
            f"step {step + 1}: out of memory; lower `tokens_per_pass` (now {settings.tokens_per_pass}) or "
            f"`tokens_kept` (now {settings.tokens_kept}), or add `gradient_checkpointing`, and `resume`."
        ) from error
    processes.add_gradients(parameters.values())
    (loss,) = processes.total(outcome.loss)
    norm = _clip(list(parameters.values()), settings.clip_norm, processes)
    figures: dict[str, Any] = {"loss": loss, "lr": rate, "grad_norm": norm}
    if math.isfinite(loss) and math.isfinite(norm):
        optimiser.step(rate)
        skipped = 0
    else:  # the weights stay as they were
        skipped += 1
        _require_progress(run, outcome, step, loss, norm, skipped)
        figures = {"loss": None, "lr": rate, "grad_norm": None, "skipped": True}
    optimiser.zero_grad()
    return outcome, figures, skipped


def _require_progress(run: Run, outcome: Outcome, step: int, loss: float, norm: float, skipped: int) -> None:
    """Stop a run that skips one step after the other.

    Raises:
        DivergedError: as many in a row as :data:`_LIMIT` says.
    """
    if skipped < _LIMIT[run.settings.train_weights]:
        return
    shown = ", ".join(map(run.place, outcome.rows[:_ROWS_NAMED]))
    more = ", ..." if len(outcome.rows) > _ROWS_NAMED else ""
    again = f", the {skipped}rd step like this in a row" if skipped > 1 else ""
    raise DivergedError(
        f"step {step + 1}: the loss is {loss:g} and the gradient's norm {norm:g}{again}. Its batch: {shown}{more}. "
        f"Lower `lr` (now {run.settings.lr:g}) or repair these rows; the last checkpoint is whole."
    )


def _require_finite(run: Run, step: int, figures: dict[str, float], parameters: dict[str, nn.Parameter]) -> None:
    """Keep what is lost out of checkpoints and encoders; steps may have been skipped up to here.

    Raises:
        DivergedError: a figure of the evaluation, or a weight that would be saved, is not finite.
    """
    lost = {name: value for name, value in figures.items() if not math.isfinite(value)}
    here = (each.to_local() if isinstance(each, DTensor) else each for each in parameters.values())
    broken = sum(not bool(weight.isfinite().all()) for weight in here)
    if not any(run.processes.total(len(lost), broken)):
        return
    shown = ", ".join(f"{name} is {value:g}" for name, value in lost.items()) or "weights are not finite"
    raise DivergedError(
        f"step {step}: {shown}, so nothing is saved of it. Lower `lr` (now {run.settings.lr:g}); a checkpoint from "
        "before is whole."
    )


def _clip(parameters: list[nn.Parameter], limit: float, processes: Processes) -> float:
    """Scale all gradients down to a common norm of ``limit``; returns the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    (of_shards,) = processes.total(_squares(shards))
    norm = math.sqrt(_squares([grad for grad in gradients if not isinstance(grad, DTensor)]) + of_shards)
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm


def _squares(tensors: list[Tensor]) -> float:
    return float(nn.utils.get_total_norm(tensors)) ** 2 if tensors else 0.0


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _evaluate(run: Run) -> dict[str, float]:
    """All processes take part, since all gather sharded weights."""
    run.network.eval()
    if not run.settings.compile:
        return run.evaluate()
    with torch.compiler.set_stance("force_eager"):  # its shapes and modes are not worth compiling for
        return run.evaluate()


def _require_life(run: Run, log: MetricsLog | None, step: int) -> None:
    """Stop a run whose memory vectors carry nothing, in all processes at once; the one that keeps the log knows.

    Raises:
        DivergedError: it is dead.
    """
    dead, gain = run.processes.total(*((1.0, log.evaluations[-1]["gain"]) if log and log.dead else (0.0, 0.0)))
    if dead:
        raise DivergedError(
            f"step {step}: the memory is dead: the decoder does as well with another text's memory as with the text's "
            f"own (gain {gain:.3f}, wanted {run.settings.dead_gain:g}), so whatever the loss does, the "
            f"encoder learns nothing. Change `lr` (now {run.settings.lr:g}) or shorten `context`; with a higher "
            "`dead_after`, `resume` continues all the same."
        )


def _show(run: Run, log: MetricsLog, step: int, loss: float | None, speed: float, pace: float) -> None:
    last = {name: value for name, value in (log.evaluations or [{}])[-1].items() if name != "step"}
    shown = math.nan if loss is None else loss  # of a step that was skipped
    run.show(Progress(step, run.settings.max_steps, shown, speed, (run.settings.max_steps - step) * pace, last))


def _save(
    run: Run,
    optimiser: Optimizers,
    parameters: dict[str, nn.Parameter],
    step: int,
    log: MetricsLog | None,
) -> None:
    _require_finite(run, step, {}, parameters)
    state = {
        "step": step,
        "parameters": {name: whole(parameter) for name, parameter in parameters.items()},
        "moments": {
            name: {key: whole(value) for key, value in moments.items()}
            for name, parameter in parameters.items()
            if (moments := optimiser.moments(parameter)) is not None
        },
        "statistics": {name: whole(buffer) for name, buffer in run.network.named_buffers(recurse=False)},
    }
    if log is None:
        run.export(None)
    else:
        checkpoints.save(run.directory, step, state, run.export, {int(row["step"]) for row in log.evaluations})
    run.processes.wait()


def _restore(run: Run, optimiser: Optimizers, parameters: dict[str, nn.Parameter]) -> int:
    newest = checkpoints.latest(run.directory)
    if newest is None:
        return 0
    state = checkpoints.load_state(newest)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(placed_like(state["parameters"][name], parameter))
        for name, buffer in run.network.named_buffers(recurse=False):
            buffer.copy_(state["statistics"][name])
    for name, moments in state["moments"].items():
        optimiser.restore(parameters[name], moments)
    return int(state["step"])


class AgreedStop(StopRequest):
    """A request to stop after the step, of which all processes of a run know.

    One that came too late to stop anything is passed on at the end, to stop what would have come next.
    """

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        super().__exit__(error, *details)
        if error is None:
            self.pass_on()

    def agreed(self) -> bool:
        """Whether any process was asked to stop; the same answer in all of them."""
        return self._processes.total(float(self.asked()))[0] > 0
