"""One process or many: who am I, and what do all of us together have?

Each process computes its share of every batch, as a sum over its texts divided by the size of the whole batch; the
gradients are then added up over the processes. That is data parallelism, done on the gradients instead of by a
wrapper around one ``forward``: a step calls the network several times and in two roles, and only the adapter's few
parameters have gradients at all. ``accelerate launch`` (or ``torchrun``) starts the processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llm2comp_apps.errors import TrainingError

__all__ = ["Processes"]

T = TypeVar("T")


class Processes:
    """The processes of a run, as seen from one of them.

    Attributes:
        rank: my number, from 0.
        world: how many there are.
        device: mine.
        in_step: all must run equally many passes, since their layers are spread over all of us (``shard``).
    """

    def __init__(self, device: str) -> None:
        """Join the group that the launcher describes; without a launcher there is one process on ``device``.

        Raises:
            TrainingError: there is a launcher but no accelerate.
        """
        self.rank, self.world, self.device = 0, int(os.environ.get("WORLD_SIZE", "1")), device
        self.in_step = False
        self._state: Any = None
        if self.world > 1:
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise TrainingError("several processes need accelerate: pip install 'llm2comp-apps[train]'.") from error
            self._state = PartialState(cpu=device == "cpu")
            self.rank, self.device = self._state.process_index, str(self._state.device)

    @property
    def main(self) -> bool:
        """Whether I am the one that writes files and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self._state is not None:
            with _together():
                self._state.wait_for_everyone()

    def main_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives, in every process; the main one makes it, in a file that the others find and read."""
        if self.main:
            made = make()
            self.wait()
            return made
        self.wait()
        return make()

    def share(self, items: Sequence[Any]) -> list[Any]:
        """My part of a list that all processes hold: every ``world``-th item."""
        return list(items[self.rank :: self.world])

    def idle_passes(self, count: int) -> int:
        """Passes to run for nothing after my ``count`` ones, so that those who have more do not wait for me forever.

        To be asked before the first pass: those who ask and those who still compute would wait for each other.
        """
        if not self.in_step:
            return 0
        most = torch.tensor(count, device=self.device)
        with _together():
            torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        return int(most) - count

    def total(self, *numbers: float) -> list[float]:
        """Numbers added up over the processes."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with _together():
            torch.distributed.all_reduce(sums)
        return [float(value) for value in sums]

    def added(self, *tensors: Tensor) -> list[Tensor]:
        """Tensors added up over the processes."""
        if self.world > 1:
            with _together():
                for tensor in tensors:
                    torch.distributed.all_reduce(tensor)
        return list(tensors)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up every parameter's gradient over the processes; of sharded ones there are means already."""
        if self.world == 1:
            return
        mine = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if isinstance(parameter, DTensor):
                parameter.grad.mul_(self.world)
            else:
                mine.append(parameter)
        if not mine:  # all are sharded
            return
        flat = torch.cat([parameter.grad.flatten() for parameter in mine if parameter.grad is not None])
        with _together():
            torch.distributed.all_reduce(flat)
        for parameter, part in zip(mine, flat.split([parameter.numel() for parameter in mine]), strict=True):
            parameter.grad = part.view_as(parameter)

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Put together what :meth:`share` took apart: my ``(n, ...)`` rows -> all ``(count, ...)``, in order."""
        if self.world == 1:
            return rows
        most = -(-count // self.world)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        with _together():
            torch.distributed.all_gather(parts, padded.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)[:count]


@contextmanager
def _together() -> Iterator[None]:
    """Name the cause where the others do not answer any more: gloo and NCCL only tell what happened to a connection.

    Raises:
        TrainingError: another process was lost.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"another process of this run is gone ({reason}); start all of them again: `resume` continues from the "
            "last checkpoint"
        ) from error
