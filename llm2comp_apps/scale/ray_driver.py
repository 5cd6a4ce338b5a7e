"""Ray deals out the parts of a job: one actor a worker, on as many machines as the cluster has.

The result of a part is its file, so nothing is lost with a worker, a node or this driver but the part at hand. Rules:

- A worker that is lost puts its part back at the front of the queue.
- Only workers that have loaded their encoder get parts. One that waits for a free place is asked for nothing, and
  nobody waits for it while others live; where none lives, the wait has an end.
- A part that fails several times is named in the report, and the others are done. So is one that loses its workers:
  it may be what ends them.
- A driver that is started again does what is left. Ray ends the workers of one that died.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm2comp_apps import EncoderError, LLM2CompError, UsageError
from llm2comp_apps.files import first_line
from llm2comp_apps.scale.job import MOST_FAILURES, DonePart, Job, worker_name
from llm2comp_apps.scale.run import RunProgress, RunReport, encode_part

__all__ = ["run_on_ray"]

#: Workers that a part may lose.
_MOST_LOSSES = 5
#: Seconds in which the first worker must have found a place, and seconds between two looks at everything.
_PLACE_SECONDS, _LOOK_SECONDS = 90.0, 1.0
#: Workers in a row that may be lost before they were ready.
_MOST_FALSE_STARTS = 6
_OBJECT_STORE_BYTES = 80 * 2**20  # nothing goes through it but names and counts


def run_on_ray(
    job: str | Job,
    *,
    address: str = "local",
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    cpus_per_worker: float = 1.0,
    device: str | None = None,
    load_encoder: Callable[[], Any] | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunReport:
    """Encode all parts of a job that are not done, on a Ray cluster.

    Args:
        job: the job, or its folder, which all nodes see under the same name.
        address: ``local`` starts a cluster on this machine and ends it afterwards; ``auto`` or ``host:port`` joins
            one. Where this process has joined one already, that one is used.
        workers: how many are wanted; fewer work where there is no place for more.
        gpus_per_worker: GPUs that each needs; 0.5 puts two on one.
        cpus_per_worker: the same for processor cores.
        device: where each loads the encoder; ``None`` for the best that it sees.
        load_encoder: loads the encoder of the plan in a worker, where the plan's name does not.
        on_progress: called about once a second.
        should_stop: asked as often; the parts at hand are given back.

    Raises:
        UsageError: there is no such job, or a number makes no sense.
        LLM2CompError: Ray is not installed or cannot be reached, or no worker finds a place.
        EncoderError: the workers cannot load the encoder, or it is not that of the plan.
    """
    if workers < 1:
        raise UsageError(f"must be at least 1, not {workers}", field="workers")
    for name, value in (("gpus_per_worker", gpus_per_worker), ("cpus_per_worker", cpus_per_worker)):
        if not 0 <= value < math.inf:
            raise UsageError(f"must be at least 0 and finite, not {value:g}", field=name)
    if gpus_per_worker > 1 and gpus_per_worker % 1:
        raise UsageError(
            f"must be a whole number where it is above 1, not {gpus_per_worker:g}", field="gpus_per_worker"
        )
    job = job if isinstance(job, Job) else Job.open(job)
    if len(job.done()) == len(job):
        return RunReport(skipped=len(job))
    with _cluster(address, workers, cpus_per_worker) as ray:
        needs = {"num_cpus": cpus_per_worker, "num_gpus": gpus_per_worker}
        driver = _Driver(ray, job, workers, needs, device, load_encoder, on_progress, should_stop)
        try:
            return driver.run()
        finally:
            driver.dismiss()


@contextmanager
def _cluster(address: str, workers: int, cpus_per_worker: float) -> Iterator[Any]:
    """Ray, joined to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise LLM2CompError("Ray is not installed: pip install 'llm2comp-apps[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        cores = max(1, round(workers * cpus_per_worker))
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise LLM2CompError(f"Ray cannot be reached at {address}: {first_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


class _Worker:
    """An actor: loads the encoder once, then encodes the parts that it is given."""

    def __init__(self, location: str, number: int, device: str | None, load: Callable[[], Any] | None) -> None:
        self._location, self._number, self._device, self._load = location, number, device, load
        self._job: Job
        self._encoder: Any

    def ready(self) -> str:
        """Load everything; what this worker is called."""
        self._job = Job.open(self._location)
        self._encoder = self._job.blueprint.load_encoder(self._device) if self._load is None else self._load()
        self._job.blueprint.check(self._encoder)
        return worker_name(self._number)

    def encode(self, part: int, by_force: bool) -> DonePart | None:
        """See :func:`~llm2comp_apps.scale.run.encode_part`."""
        name = worker_name(self._number)
        return encode_part(self._job, part, self._encoder, worker=name, by_force=by_force)


@dataclass(slots=True)
class _Driver:
    ray: Any
    job: Job
    wanted: int
    needs: dict[str, float]
    device: str | None
    load: Callable[[], Any] | None
    on_progress: Callable[[RunProgress], None] | None
    should_stop: Callable[[], bool] | None
    report: RunReport = field(default_factory=RunReport)
    queue: deque[int] = field(default_factory=deque)
    held: set[int] = field(default_factory=set)  # parts that somebody else had when they were dealt out
    losses: Counter[int] = field(default_factory=Counter)
    starting: dict[Any, Any] = field(default_factory=dict)  # what tells that a worker is ready -> worker
    busy: dict[Any, tuple[Any, int]] = field(default_factory=dict)  # result -> worker, part
    idle: list[Any] = field(default_factory=list)
    number: int = 0
    false_starts: int = 0
    alone_since: float = field(default_factory=time.monotonic)  # since when no worker is ready

    def run(self) -> RunReport:
        start = time.monotonic()
        done, given_up = self.job.done(), self.given_up()
        self.report.skipped = len(done)
        self.queue.extend(part for part in range(len(self.job)) if part not in done and part not in given_up)
        while (self.queue or self.busy) and not self.stopping():
            self.staff()
            self.deal()
            results, _ = self.ray.wait([*self.busy, *self.starting], timeout=_LOOK_SECONDS)
            for result in results:
                self.welcome(result) if result in self.starting else self.collect(result)
            self.check_places()
            self.show()
        self.report.failed |= self.given_up()
        self.report.left = len(self.queue) + len(self.busy)
        self.report.seconds = time.monotonic() - start
        return self.report

    def given_up(self) -> dict[int, str]:
        """Parts that failed too often, and why."""
        failures = self.job.failures()
        return {part: each[-1].reason for part, each in failures.items() if len(each) >= MOST_FAILURES}

    def stopping(self) -> bool:
        self.report.interrupted = self.should_stop is not None and self.should_stop()
        return self.report.interrupted

    # --- workers ---

    def staff(self) -> None:
        """Ask for as many workers as there are parts for; some may have to wait for a place."""
        while len(self.busy) + len(self.idle) + len(self.starting) < min(self.wanted, len(self.queue) + len(self.busy)):
            # max_restarts=0: a worker that comes back by itself would have to be waited for
            kind = self.ray.remote(_Worker).options(max_restarts=0, max_task_retries=0, **self.needs)
            worker = kind.remote(_absolute(self.job.folder.location), self.number, self.device, self.load)
            self.starting[worker.ready.remote()] = worker
            self.number += 1

    def welcome(self, ready: Any) -> None:
        """A worker has loaded its encoder, or could not.

        Raises:
            LLM2CompError: its encoder cannot be loaded, or one worker after the other is lost at its start.
        """
        worker = self.starting.pop(ready)
        try:
            self.ray.get(ready)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            kind = type(cause) if isinstance(cause, LLM2CompError) else EncoderError
            raise kind(f"a worker cannot start: {_reason(error)}") from error
        except self.ray.exceptions.RayError as error:
            self.lose(worker)
            self.false_starts += 1
            if self.false_starts >= _MOST_FALSE_STARTS:
                raise LLM2CompError(
                    f"{self.false_starts} workers in a row were lost at their start: {_reason(error)}"
                ) from error
        else:
            self.false_starts = 0
            self.idle.append(worker)

    def lose(self, worker: Any) -> None:
        """A worker is gone, or cannot be reached; what is left of it is ended."""
        self.report.lost += 1
        with suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(worker)

    def check_places(self) -> None:
        """Give up where no worker lives and none finds a place.

        Raises:
            LLM2CompError: says what each worker needs and what is free.
        """
        if self.busy or self.idle:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > _PLACE_SECONDS:
            needs = " and ".join(f"{value:g} {name[4:].upper()}" for name, value in self.needs.items() if value)
            free = {name: self.ray.available_resources().get(name, 0) for name in ("CPU", "GPU")}
            raise LLM2CompError(
                f"no worker has found a place in {_PLACE_SECONDS:.0f} s: each needs {needs}, and the cluster has "
                f"{free['CPU']:g} CPU and {free['GPU']:g} GPU free"
            )

    def dismiss(self) -> None:
        """End all workers, and give their parts back."""
        for worker in [*self.idle, *self.starting.values(), *(worker for worker, _ in self.busy.values())]:
            with suppress(Exception):  # whatever is wrong with the cluster, it must not hide why we end
                self.ray.kill(worker)
        for _, part in self.busy.values():
            self.job.release(part)

    # --- parts ---

    def deal(self) -> None:
        """Give a part to each idle worker; those that others work on come last, and are then taken from them."""
        while self.idle and self.queue:
            part = next((each for each in self.queue if each not in self.held), None)
            by_force = part is None
            part = self.queue[0] if part is None else part
            self.queue.remove(part)
            worker = self.idle.pop()
            self.busy[worker.encode.remote(part, by_force)] = worker, part

    def collect(self, result: Any) -> None:
        """A part is done, or it failed, or its worker is lost."""
        worker, part = self.busy.pop(result)
        try:
            record = self.ray.get(result)
        except self.ray.exceptions.RayTaskError as error:
            self.idle.append(worker)
            failures = self.job.fail(part, worker_name(), _reason(error))
            if len(failures) < MOST_FAILURES:
                self.queue.append(part)
        except self.ray.exceptions.RayError as error:
            self.lose(worker)
            self.job.release(part)
            self.losses[part] += 1
            if self.losses[part] < _MOST_LOSSES:
                self.queue.appendleft(part)
            else:
                self.report.failed[part] = f"lost {self.losses[part]} workers, the last one so: {_reason(error)}"
        else:
            self.idle.append(worker)
            if record is None:
                self.held.add(part)
                self.queue.append(part)
            else:
                self.report.add(part, record)

    def show(self) -> None:
        if self.on_progress is not None:
            done = self.job.done()
            total = sum(self.job.weight(part) for part in range(len(self.job)))
            ready = sum(self.job.weight(part) for part in done)
            documents = self.report.documents + sum(lease.documents for lease in self.job.leases().values())
            self.on_progress(RunProgress(documents=documents, parts=len(done), fraction=ready / max(total, 1)))


def _absolute(location: str) -> str:
    """A folder as workers find it, whose working directory is another one."""
    return location if "://" in location else str(Path(location).resolve())


def _reason(error: BaseException) -> str:
    """What a person needs to know of an error that Ray wraps."""
    cause = getattr(error, "cause", None)
    return first_line(cause if isinstance(cause, BaseException) else error)
