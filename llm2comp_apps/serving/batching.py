"""The engine: one thread owns an encoder, and makes batches of what many requests ask of it.

There is no window to wait for: a batch forms while the one before it runs. It is a first-in prefix of what waits, under
a budget of tokens that is worth about a third of a second at the speed that was measured, so that nobody waits long
behind it. Queries go before bulk, though bulk always gets a turn; a request with more than a batch goes to the end of
the line after each batch. Requests that were cancelled are dropped.

A batch that fails is taken apart: by halves where memory ran out, by request otherwise, so that a request fails alone.
Nothing ends the thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from llm2comp_apps.serving.errors import ApiError, OverloadedError, busy
from llm2comp_apps.serving.metrics import Metrics
from llm2comp_apps.serving.tokens import TokenCounter

__all__ = ["Engine", "Form", "Job", "Lane", "Vectors"]

LOGGER = logging.getLogger(__name__)
FloatArray: TypeAlias = npt.NDArray[np.float32]
Lane: TypeAlias = Literal["query", "bulk"]
Form: TypeAlias = Literal["embedding", "memory", "tokens"]
"""What is made of a text: one vector, its memory vectors, or the states of its tokens."""
Vectors: TypeAlias = FloatArray | list[Any]
"""``(n, d)``, ``(n, k, d)``, or the tokens of n texts, each with ``vectors``."""

SLICE_SECONDS = 0.35
"""Wanted duration of a batch: what a query may have to wait behind bulk work."""
MIN_BATCH_TOKENS = 256
MAX_BATCH_TOKENS = 65_536
_FIRST_RATE = 1000.0
"""Tokens a second that are counted on before any speed was measured: what a slow laptop does."""
_BULK_TURN = 8  # after so many batches of queries in a row, bulk gets one
_MOST_WAITING_TOKENS = 20_000_000  # bounds memory where the encoder is very fast


@dataclass(eq=False, slots=True)
class Job:
    """Texts of one request.

    Attributes:
        texts: to encode.
        lengths: tokens of each as the encoder sees it.
        lane: who goes first.
        prompt: before every text.
        form: what is wanted of them.
        max_length: tokens of a text that are read where tokens are wanted; ``None`` for the encoder's own.
        future: gets it.
        born: when it came, by the monotonic clock.
        waiting: positions of texts that wait, longest first.
        parts: positions and vectors that are done.
    """

    texts: Sequence[str]
    lengths: list[int]
    lane: Lane
    prompt: str | None
    form: Form
    max_length: int | None = None
    future: Future[Any] = field(default_factory=Future)
    born: float = field(default_factory=time.monotonic)
    waiting: deque[int] = field(default_factory=deque)
    parts: list[tuple[list[int], Vectors]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting.extend(sorted(range(len(self.texts)), key=lambda index: -self.lengths[index]))

    @property
    def kind(self) -> tuple[Form, str | None, int | None]:
        """Jobs of one kind can share a batch."""
        return self.form, self.prompt, self.max_length

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self.tokens_of(self.waiting)

    def tokens_of(self, positions: Iterable[int]) -> int:
        """Tokens of some of the texts."""
        return sum(self.lengths[index] for index in positions)

    def take(self, room: int, *, at_least_one: bool) -> list[int]:
        """Positions of the next texts, at most ``room`` tokens together; one alone may be larger."""
        piece: list[int] = []
        while self.waiting and (room >= self.lengths[self.waiting[0]] or (at_least_one and not piece)):
            index = self.waiting.popleft()
            room -= self.lengths[index]
            piece.append(index)
        return piece

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended."""
        self.waiting.clear()
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


_Piece: TypeAlias = tuple[Job, list[int]]


class Engine:
    """Runs one encoder in a thread of its own.

    Args:
        load: gives the encoder; called in the thread.
        name: for people.
        max_wait: seconds; a request that would wait longer is refused.
        metrics: counts.
    """

    def __init__(
        self, load: Callable[[], Any], *, name: str = "", max_wait: float = 30.0, metrics: Metrics | None = None
    ) -> None:
        self.name = name
        self.max_wait = max_wait
        self.metrics = metrics or Metrics()
        self.heartbeat = time.monotonic()
        self.loaded: Future[Any] = Future()
        self.counter: TokenCounter
        self._load = load
        self._lanes: dict[Lane, deque[Job]] = {"query": deque(), "bulk": deque()}
        self._tokens: dict[Lane, int] = {"query": 0, "bulk": 0}
        self._running = 0
        self._rate: float | None = None  # tokens a second while a batch runs
        self._bulk_rate: float | None = None  # of bulk on the clock, while it waits its turns behind queries
        self._bulk_since = 0.0  # when bulk began to wait, or had its last turn
        self._query_turns = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"engine {name}", daemon=True)

    def start(self) -> Engine:
        """Begin to load and to work."""
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether the encoder has been loaded."""
        return self.loaded.done() and self.loaded.exception() is None

    @property
    def encoder(self) -> Any:
        """The encoder.

        Raises:
            ApiError: it is still being loaded, or cannot be loaded.
        """
        if not self.loaded.done():
            raise busy("the encoder is being loaded; try again in a moment", seconds=2)
        error = self.loaded.exception()
        if error is not None:
            raise ApiError(503, "the encoder cannot be loaded; see the server's log", code="no_encoder") from error
        return self.loaded.result()

    def stuck(self, seconds: float = 60.0) -> bool:
        """Whether work waits and nothing has moved for so long, or the thread has ended."""
        waits = any(self._lanes.values()) or self._running
        return not self.alive or bool(waits and time.monotonic() - self.heartbeat > seconds)

    def waiting_seconds(self, lane: Lane, tokens: int = 0) -> float:
        """How long ``tokens`` of a lane would wait before the last of them is begun, by the speed that was measured."""
        rate = self._rate or _FIRST_RATE
        if lane == "query":
            return (self._running + self._tokens["query"] + tokens) / rate
        alone = (self._running + self._tokens["query"] + self._tokens["bulk"] + tokens) / rate
        return max(alone, (self._tokens["bulk"] + tokens) / (self._bulk_rate or rate))

    def submit(
        self,
        texts: Sequence[str],
        lengths: Sequence[int],
        *,
        lane: Lane,
        prompt: str | None,
        form: Form = "embedding",
        max_length: int | None = None,
    ) -> Future[Any]:
        """Hand texts in; the future gets their :data:`Vectors`, and may be cancelled.

        Raises:
            OverloadedError: it would wait too long.
            ApiError: the server stops.
        """
        job = Job(texts, list(lengths), lane, prompt, form, max_length)
        if not texts:
            job.future.set_result(self._nothing(form))
            return job.future
        tokens = job.tokens
        with self._changed:
            if self._closing:
                raise busy("the server is stopping", seconds=5)
            if self._is_full(lane):
                self._drop_cancelled()
            if self._is_full(lane):
                self.metrics.overloaded.inc()
                raise OverloadedError(max(1.0, self.waiting_seconds(lane) - self.max_wait / 2))
            if lane == "bulk" and not self._lanes["bulk"]:
                self._bulk_since = time.monotonic()
            self._lanes[lane].append(job)
            self._tokens[lane] += tokens
            self.metrics.queue_tokens.labels(self.name).set(sum(self._tokens.values()))
            self._changed.notify()
        return job.future

    def _is_full(self, lane: Lane) -> bool:
        return self.waiting_seconds(lane) > self.max_wait or self._tokens[lane] > _MOST_WAITING_TOKENS

    def _drop_cancelled(self) -> None:
        for lane, jobs in self._lanes.items():
            for job in jobs:
                if job.future.cancelled():
                    self._forget(job)
            self._lanes[lane] = deque(job for job in jobs if not job.future.cancelled())

    def _nothing(self, form: Form) -> Vectors:
        """The vectors of no texts."""
        if form == "tokens":
            return []
        encoder = self.encoder
        shape = (encoder.k, encoder.dimension) if form == "memory" else (encoder.dimension,)
        return np.zeros((0, *shape), np.float32)

    def close(self, timeout: float = 10.0) -> None:
        """End the thread; what waits fails."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _serve(self) -> None:
        try:
            encoder = self._load()
            self.counter = TokenCounter(encoder)
            self.loaded.set_result(encoder)
        except BaseException as error:
            LOGGER.exception("the encoder %s cannot be loaded", self.name)
            self.loaded.set_exception(error)
        while not self._closing:
            self.heartbeat = time.monotonic()
            try:
                self._serve_one()
            except BaseException as error:
                LOGGER.critical("a fault of the engine %s itself", self.name, exc_info=error)
                self._fail_all(ApiError(500, "internal error; see the server's log", code="internal_error"))
        self._fail_all(busy("the server is stopping", seconds=5))

    def _serve_one(self) -> None:
        """Wait for work, and do one batch of it."""
        with self._changed:
            while not self._closing and not any(self._lanes.values()):
                self._changed.wait()
            batch = [] if self._closing else self._take()
        self._run(batch)
        self._running = 0

    def _fail_all(self, error: ApiError) -> None:
        with self._changed:
            waiting = list(itertools.chain(*self._lanes.values()))
            self._lanes = {"query": deque(), "bulk": deque()}
            self._tokens = {"query": 0, "bulk": 0}
        for job in waiting:
            job.fail(error)

    @property
    def budget(self) -> int:
        """Tokens of the next batch."""
        wanted = int((self._rate or 0) * SLICE_SECONDS)
        return max(MIN_BATCH_TOKENS, min(MAX_BATCH_TOKENS, wanted))

    def _take(self) -> list[_Piece]:
        """The next batch."""
        lane: Lane = "query"
        if not self._lanes["query"] or (self._lanes["bulk"] and self._query_turns >= _BULK_TURN):
            lane = "bulk"
        self._query_turns = self._query_turns + 1 if lane == "query" else 0
        jobs, passed_over, begun = self._lanes[lane], deque[Job](), deque[Job]()
        room = self.budget
        batch: list[_Piece] = []
        while jobs and room > 0:
            job = jobs.popleft()
            if job.future.cancelled():
                self._forget(job)
                continue
            if batch and job.kind != batch[0][0].kind:
                passed_over.append(job)
                continue
            piece = job.take(room, at_least_one=not batch)
            if piece:
                tokens = job.tokens_of(piece)
                room -= tokens
                self._tokens[lane] -= tokens
                self._running += tokens
                batch.append((job, piece))
            if job.waiting:  # the batch is full; who has had a turn waits behind the others
                (begun if piece else passed_over).append(job)
                break
        self._lanes[lane] = passed_over + jobs + begun
        self.metrics.queue_tokens.labels(self.name).set(sum(self._tokens.values()))
        return batch

    def _forget(self, job: Job) -> None:
        self._tokens[job.lane] -= job.tokens
        self.metrics.cancelled.inc()

    def _run(self, batch: list[_Piece]) -> None:
        """Encode a batch, or what is left of it when parts of it fail."""
        batch = [(job, piece) for job, piece in batch if not job.future.done()]
        if not batch:
            return
        start = time.monotonic()
        try:
            vectors = _encoded(self.encoder, batch)
        except BaseException as error:  # noqa: BLE001 - not even a panic of a library in Rust may end the thread
            self._run_apart(batch, error)
            return
        seconds = time.monotonic() - start
        tokens = sum(job.tokens_of(piece) for job, piece in batch)
        self._measured(batch, tokens, seconds, start)
        done = 0
        for job, piece in batch:
            job.parts.append((piece, vectors[done : done + len(piece)]))
            done += len(piece)
            _finish(job)

    def _run_apart(self, batch: list[_Piece], error: BaseException) -> None:
        """A batch failed: find out whose fault it was."""
        self.heartbeat = time.monotonic()
        texts = sum(len(piece) for _, piece in batch)
        if _is_out_of_memory(error) and texts > 1:
            self.metrics.halved.inc()
            for half in _halves(batch):
                self._run(half)
        elif len(batch) > 1:
            for piece in batch:
                self._run([piece])
        else:
            job, _ = batch[0]
            with self._changed:
                self._tokens[job.lane] -= job.tokens
            if not isinstance(error, ApiError):
                LOGGER.error("the encoder %s failed", self.name, exc_info=error)
            job.fail(error if isinstance(error, Exception) else RuntimeError(str(error)))

    def _measured(self, batch: list[_Piece], tokens: int, seconds: float, start: float) -> None:
        self.heartbeat = time.monotonic()
        rate = tokens / max(seconds, 1e-4)
        # Small batches say little about the speed of large ones: each counts by its size.
        weight = 0.3 * min(1.0, tokens / MIN_BATCH_TOKENS)
        self._rate = _moved(self._rate, rate, weight)
        if batch[0][0].lane == "bulk":
            with self._changed:
                now = time.monotonic()
                self._bulk_rate = _moved(self._bulk_rate, tokens / max(now - self._bulk_since, 1e-4), weight)
                self._bulk_since = now
        self.metrics.batch_tokens.observe(tokens)
        self.metrics.batch_seconds.observe(seconds)
        for job, _ in batch:
            if not job.parts:
                self.metrics.queue_wait_seconds.labels(job.lane).observe(start - job.born)


def _encoded(encoder: Any, batch: list[_Piece]) -> Vectors:
    """What is wanted of the texts of a batch, in their order.

    Raises:
        ApiError: the encoder gave something else.
    """
    job = batch[0][0]
    texts = [job.texts[index] for job, piece in batch for index in piece]
    vectors: Vectors
    if job.form == "tokens":
        vectors = encoder.encode_tokens(texts, max_length=job.max_length)
        sound = all(np.isfinite(each.vectors).all() for each in vectors)
    else:
        encode = encoder.encode_memory if job.form == "memory" else encoder.encode
        vectors = np.asarray(encode(texts, prompt=job.prompt), dtype=np.float32)
        sound = bool(np.isfinite(vectors).all())
    if len(vectors) != len(texts) or not sound:
        raise ApiError(500, "the encoder gave a vector that is no vector", code="encoder_failed")
    return vectors


def _finish(job: Job) -> None:
    """Hand the vectors over if these were the last."""
    if job.waiting or sum(len(piece) for piece, _ in job.parts) < len(job.texts):
        return
    order = np.argsort([index for piece, _ in job.parts for index in piece])
    parts = [vectors for _, vectors in job.parts]
    whole: Vectors
    if job.form == "tokens":
        states = list(itertools.chain.from_iterable(parts))
        whole = [states[index] for index in order]
    else:
        whole = np.concatenate(parts)[order]
    with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
        job.future.set_result(whole)


def _halves(batch: list[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """A batch in two, each with half of the texts."""
    texts = [(job, index) for job, piece in batch for index in piece]
    middle = len(texts) // 2
    return _pieces(texts[:middle]), _pieces(texts[middle:])


def _pieces(texts: Sequence[tuple[Job, int]]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for job, index in texts:
        if not pieces or pieces[-1][0] is not job:
            pieces.append((job, []))
        pieces[-1][1].append(index)
    return pieces


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in the words of torch, CUDA or ONNX Runtime."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "failed to allocate", "bad_alloc")
    )


def _moved(mean: float | None, value: float, weight: float) -> float:
    """A running mean after one more value."""
    return value if mean is None else mean * (1 - weight) + value * weight
