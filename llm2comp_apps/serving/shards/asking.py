"""Asking many shards at once, each within a deadline, and another replica where the first is slow or fails.

A second question goes out when the first has waited longer than nearly all do (Dean and Barroso, "The Tail at Scale",
2013): the answer that comes first counts, and the other question is dropped. That costs few questions, and turns the
slowest answers into usual ones.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import orjson

from llm2comp_apps.serving.errors import ApiError
from llm2comp_apps.serving.schemas import read_json
from llm2comp_apps.serving.shards.connections import Answer, Connections, TransportError
from llm2comp_apps.serving.shards.replicas import Known, Replica, Shard
from llm2comp_apps.serving.shards.wire import EXCHANGES, MOVED

__all__ = ["Asker", "Lost", "MovedError", "Reply"]

T = TypeVar("T")
_HEADERS = {"content-type": "application/json"}
_GRACE = 5.0  # seconds for what is dropped, and for the thread, to end
_MISTAKES = (400, 413, 422)  # of who asks; another replica would say the same
_FOREIGN = "does not answer as a shard of this version does"


class MovedError(Exception):
    """A shard has moved on, or was lost, since the search began: what it said before does not fit any more."""


class Reply(NamedTuple):
    """An answer of a shard, read as its question wants it, and the commit and the server that gave it."""

    state: tuple[int, int]
    answer: Any
    replica: Replica


class Lost(NamedTuple):
    """No answer, and why."""

    reason: str


class _FailedError(Exception):
    """A replica did not answer; ``final`` if it will not, as long as it is what it is."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Asker:
    """Asks the shards of one index, from a thread of its own.

    Args:
        shards: whom to ask.
        key: that their servers want.
        count: told the shard and the outcome of each question: ``ok``, ``late``, ``failed``, ``second``.
    """

    def __init__(self, shards: Sequence[Shard], *, key: str | None, count: Callable[[str, str], None]) -> None:
        self._shards = shards
        self._count = count
        self._fingerprint: str | None = None
        self._turn = 0
        self._door, self._closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shards", daemon=True)
        self._thread.start()
        headers = {**_HEADERS, "authorization": f"Bearer {key}"} if key else _HEADERS
        self._connections = Connections(headers)

    def expect(self, fingerprint: str | None) -> None:
        """From now on, shards whose vectors are of another encoder do not answer."""
        self._fingerprint = fingerprint

    def ask(
        self,
        question: str,
        bodies: Mapping[int, Mapping[str, Any]],
        *,
        until: float,
        patience: float,
        servers: Mapping[int, Replica] | None = None,
    ) -> dict[int, Reply | Lost]:
        """Ask shards, by their numbers, all at once; waits for the answers.

        Args:
            question: one of :data:`.wire.EXCHANGES`, or another that every shard answers.
            bodies: for each shard.
            until: when to stop waiting, by the monotonic clock.
            patience: seconds after which another replica is asked at the latest.
            servers: the replicas that answered before, and so are asked first: those of one shard may be some commits
                apart, and what they say does not fit together then.

        Raises:
            MovedError: a shard has moved on since.
            ApiError: a question was wrong.
        """
        servers = servers or {}
        if not servers:  # once for all that belongs together, or an even number of questions would spare a replica
            self._turn += 1
        written: dict[int, bytes] = {}  # a body that several shards get is written once
        for body in bodies.values():
            if id(body) not in written:
                written[id(body)] = orjson.dumps({**body, "fingerprint": self._fingerprint})
        orders = {number: self._shards[number].order(self._turn, servers.get(number)) for number in bodies}
        asked = {number: (self._shards[number], orders[number], written[id(bodies[number])]) for number in bodies}
        return self._wait(self._ask_all(question, asked, until, patience))

    def look(self, seconds: float) -> list[tuple[Replica, Known | str]]:
        """Ask every replica who it is, and what is the trouble with those that do not say."""
        return self._wait(self._look_at_all(seconds))

    def close(self) -> None:
        """Drop what is asked, so that nobody waits for it, and end the connections and the thread."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            dropped = asyncio.run_coroutine_threadsafe(self._drop(), self._loop)
        dropped.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE)
        if not self._thread.is_alive():
            self._loop.close()

    async def _drop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:  # ended, and not only told to: who waits for one would wait for ever once the loop stands still
            await asyncio.wait(tasks, timeout=_GRACE)
        self._connections.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._door:  # so that nothing comes in behind what is dropped
            if self._closed:
                work.close()
                raise RuntimeError("the connections to the shards are closed")
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        return asked.result()

    async def _ask_all(
        self, question: str, asked: Mapping[int, tuple[Shard, list[Replica], bytes]], until: float, patience: float
    ) -> dict[int, Reply | Lost]:
        tasks = [self._ask_one(*each, question, until, patience) for each in asked.values()]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return dict(zip(asked, [each for each in found if not isinstance(each, BaseException)], strict=True))

    async def _ask_one(
        self, shard: Shard, order: list[Replica], body: bytes, question: str, until: float, patience: float
    ) -> Reply | Lost:
        """The first answer of any replica."""
        if not order:
            return Lost(shard.trouble)
        pause = shard.patience(question, patience) if len(order) > 1 else patience
        start = time.monotonic()
        tasks: dict[asyncio.Task[Reply], Replica] = {}
        trouble: list[str] = []
        try:
            while tasks or order:
                if order:
                    replica = order.pop(0)
                    tasks[asyncio.create_task(self._answer(replica, question, body))] = replica
                left = max(0.0, until - time.monotonic())
                timeout = min(left, pause) if order else left
                done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del tasks[task]
                    if task.exception() is None:
                        shard.took(question, time.monotonic() - start)
                        self._count(shard.name, "ok")
                        return task.result()
                    if not isinstance(task.exception(), _FailedError):
                        return task.result()  # raises what is wrong with the question
                    trouble.append(str(task.exception()))
                    self._count(shard.name, "failed")
                if not done and time.monotonic() >= until:
                    return self._late(shard, tasks.values())
                if not done:
                    self._count(shard.name, "second")
            return Lost("; ".join(trouble))
        finally:
            for task in tasks:
                task.cancel()

    def _late(self, shard: Shard, asked: Iterable[Replica]) -> Lost:
        reason = "does not answer in time"
        for replica in asked:
            replica.failed(reason)
        self._count(shard.name, "late")
        return Lost(reason)

    async def _answer(self, replica: Replica, question: str, body: bytes) -> Reply:
        """The answer of a replica."""
        path = f"/indexes/{quote(str(replica.index), safe='')}/shard/{question}"
        try:
            found = _reply(replica, question, await self._post(replica, path, body))
        except _FailedError as error:
            replica.failed(str(error), at_once=error.final)
            raise
        except TransportError as error:
            replica.failed(str(error))
            raise _FailedError(str(error)) from error
        replica.answered()
        return found

    async def _post(self, replica: Replica, path: str, body: bytes) -> dict[str, Any]:
        return _content(await self._connections.ask("POST", replica.address.url, path, body))

    async def _look_at_all(self, seconds: float) -> list[tuple[Replica, Known | str]]:
        replicas = [replica for shard in self._shards for replica in shard.replicas]
        found = await asyncio.gather(*(self._look(replica, seconds) for replica in replicas))
        return list(zip(replicas, found, strict=True))

    async def _look(self, replica: Replica, seconds: float) -> Known | str:
        try:
            async with asyncio.timeout(seconds):
                try:
                    found = await self._about(replica)
                except _FailedError:  # another server may be there now, where the index has another name
                    if replica.index == replica.address.index:
                        raise
                    replica.index = None
                    found = await self._about(replica)
            return Known(generation=found["generation"], documents=found["documents"], **found["answer"])
        except TimeoutError:
            return f"does not answer within {seconds:g} seconds"
        except (TransportError, _FailedError, ApiError) as error:
            return str(error)
        except (KeyError, TypeError):
            return "runs another version of llm2comp"

    async def _about(self, replica: Replica) -> dict[str, Any]:
        if replica.index is None:
            replica.index = await self._only_index(replica)
        return await self._post(replica, f"/indexes/{quote(replica.index, safe='')}/shard/about", b"{}")

    async def _only_index(self, replica: Replica) -> str:
        listed = _content(await self._connections.ask("GET", replica.address.url, "/indexes"))
        names = [each["name"] for each in listed["results"]]
        if len(names) != 1:
            known = ", ".join(names) or "none"
            raise _FailedError(f"must serve one index, or be named with it (/indexes/NAME); it has {known}")
        return str(names[0])


def _reply(replica: Replica, question: str, content: dict[str, Any]) -> Reply:
    """What a replica says to a question.

    Raises:
        _FailedError: it is no answer to that: of another program, or of another version of this one.
    """
    try:
        answer = content["answer"]
        if question in EXCHANGES:
            answer = EXCHANGES[question].read(answer)
        return Reply((content["generation"], content["documents"]), answer, replica)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _FailedError(_FOREIGN, final=True) from error


def _content(response: Answer) -> dict[str, Any]:
    """The content of an answer.

    Raises:
        MovedError: the shard has moved on.
        ApiError: the question was wrong.
        _FailedError: there is no answer.
    """
    try:
        found = read_json(response.body)
    except (ValueError, RecursionError):
        found = None
    if response.status == 200:
        if not isinstance(found, dict):
            raise _FailedError(_FOREIGN, final=True)
        return found
    error = found.get("error") if isinstance(found, dict) else None
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or f"answers {response.status}")
    if error.get("code") == MOVED:
        raise MovedError
    known = "message" in error  # else it is of what stands before the server, such as a proxy
    if known and response.status in _MISTAKES and error.get("code") != "host_not_allowed":
        raise ApiError(response.status, message, code=error.get("code"), param=error.get("param"))
    raise _FailedError(f"refuses: {message}", final=response.status < 429 or response.status == 503)
