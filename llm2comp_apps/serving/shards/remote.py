"""Shards as an index to read: what :class:`llm2comp_indexes.ShardedIndex` does, over a network."""

from __future__ import annotations

import copy
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from llm2comp_indexes import (
    Damage,
    Hit,
    IndexedDocument,
    IndexInfo,
    InputError,
    LexicalStatistics,
    QueryWords,
    Question,
    ShardedIndex,
    query_words,
)

from llm2comp_apps import LLM2CompError, UsageError
from llm2comp_apps.serving.errors import ApiError
from llm2comp_apps.serving.shards.addresses import ShardedAddress
from llm2comp_apps.serving.shards.asking import Asker, Lost, MovedError, Reply
from llm2comp_apps.serving.shards.replicas import Known, Replica, Shard
from llm2comp_apps.serving.shards.wire import EXCHANGES

__all__ = ["RemoteIndex", "Request"]

LOGGER = logging.getLogger(__name__)
_FIRST_LOOK = 10.0  # seconds; a server may have much to open before it answers first
_SAMPLE_SECONDS = 60.0
_RESERVE = 0.25  # of the deadline, for what remains to be asked when a shard has let it pass
_GRACE = 0.1  # of the deadline, that a question has at least
_SECOND_AFTER = 0.25  # of the deadline, where it is not known how long answers take
_STRICT_TRIES = 2  # of a request, in which shards must not move on


@dataclass(slots=True, kw_only=True)
class Request:
    """All that is asked of shards for one answer of the front: of one state of each, within one deadline.

    Attributes:
        start: by the monotonic clock.
        tries: how often it began again.
        missing: why shards did not answer, by their numbers.
        states: of the shards that did.
        servers: of the shards, which answered last; the others of a shard may be some commits apart from it.
        places: the shard of each document that was found.
        statistics: of the words of queries.
        mixed: whether a shard answered from two states, so that what it said may not fit together.
    """

    start: float = field(default_factory=time.monotonic)
    tries: int = 0
    missing: dict[int, str] = field(default_factory=dict)
    states: dict[int, tuple[int, int]] = field(default_factory=dict)
    servers: dict[int, Replica] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, LexicalStatistics] = field(default_factory=dict)
    mixed: bool = False

    def again(self) -> Request:
        """The same from its beginning, without the shards that were lost."""
        return Request(start=self.start, tries=self.tries + 1, missing=self.missing, servers=self.servers)

    def until(self, deadline: float) -> float:
        """When to stop waiting for an answer, by the monotonic clock."""
        whole = self.start + deadline * (1 if self.missing else 1 - _RESERVE)
        return max(whole, time.monotonic() + _GRACE * deadline)

    def saw(self, number: int, reply: Reply) -> None:
        """A shard answered.

        Raises:
            MovedError: it was in another state before.
        """
        self.servers[number] = reply.replica
        if self.states.setdefault(number, reply.state) != reply.state:
            self.mixed = True
            if self.tries < _STRICT_TRIES:
                raise MovedError


_REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


class RemoteIndex(ShardedIndex):
    """Reads shards that servers on other machines hold. What it needs to know of them it asks again each time.

    Args:
        address: of the shards.
        key: that their servers want.
        deadline: seconds that all the shards' answers to one request may take.
        count: told the shard and the outcome of each question.

    Attributes:
        parts: the shards.
        deadline: as given.

    Raises:
        UsageError: shards do not fit each other.
        LLM2CompError: none of them answers.
    """

    def __init__(
        self,
        address: ShardedAddress,
        *,
        key: str | None = None,
        deadline: float = 2.0,
        count: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self.parts = [Shard(replicas) for replicas in address.shards]
        self.deadline = deadline
        self._owner = True
        self._asker = Asker(self.parts, key=key, count=count)
        self._shared: set[frozenset[str]] = set()  # pairs of shards that were seen to hold the same document
        try:
            self._known = self._first_look()
            self._asker.expect(self._known.encoder.get("fingerprint"))
            self._check_ids()
        except BaseException:
            self.close()
            raise
        self.name = address.name or self._common_name()

    def _first_look(self) -> Known:
        found = self._asker.look(_FIRST_LOOK)
        answered = [(replica, known) for replica, known in found if isinstance(known, Known)]
        if not answered:
            listed = "; ".join(f"{replica.address.name} {trouble}" for replica, trouble in found)
            raise LLM2CompError(f"no shard answers: {listed}")
        first = answered[0][1]
        for replica, known in answered:
            if wrong := known.differs(first):
                reason = f"{replica.address.name} cannot be searched together with the others: it {wrong}"
                raise UsageError(reason, field="shards")
        self._took_note(found, first)
        return first

    def _took_note(self, found: Sequence[tuple[Any, Known | str]], first: Known) -> None:
        for replica, known in found:
            if isinstance(known, str):
                replica.seen(None, known)
            else:
                replica.seen(known, known.differs(first))

    def _check_ids(self) -> None:
        """Refuse shards that hold the same documents, as far as a sample of their ids tells."""
        until = time.monotonic() + _SAMPLE_SECONDS
        asked: dict[int, Mapping[str, Any]] = {number: {} for number in self._numbers if self.parts[number].sound}
        found = self._asker.ask("sample", asked, until=until, patience=_SAMPLE_SECONDS)
        samples = {number: set(reply.answer) for number, reply in found.items() if isinstance(reply, Reply)}
        for one, other in itertools.combinations(samples, 2):
            if shared := sorted(samples[one] & samples[other]):
                names = f"{self.parts[one].name} and {self.parts[other].name}"
                reason = f"must hold each document once, but {names} both hold {shared[0]!r}"
                raise UsageError(reason, field="shards")

    def _common_name(self) -> str:
        names = {replica.index for shard in self.parts for replica in shard.replicas if replica.index}
        return names.pop() if len(names) == 1 else "shards"

    @contextmanager
    def reading(self, request: Request) -> Iterator[None]:
        """What is asked in the block belongs to one request."""
        token = _REQUEST.set(request)
        try:
            yield
        finally:
            _REQUEST.reset(token)

    @property
    def _numbers(self) -> range:
        return range(len(self.parts))

    def _answers(self, questions: Mapping[int, Question]) -> dict[int, Any]:
        """See :meth:`.ShardedIndex._answers`; shards that do not answer are left out, and named in the request.

        Raises:
            MovedError: the request must begin again.
            ApiError: no shard answers.
        """
        request = _request()
        name = next(iter(questions.values())).method.__name__ if questions else ""
        if name and name not in EXCHANGES:
            self._refuse(name)
        asked: dict[int, Mapping[str, Any]] = {}
        bodies: dict[int, Mapping[str, Any]] = {}
        for number, question in questions.items():
            if number not in request.missing:
                if id(question) not in bodies:
                    bodies[id(question)] = EXCHANGES[name].ask(*question.args, **question.named)
                asked[number] = bodies[id(question)]
        until, patience = request.until(self.deadline), _SECOND_AFTER * self.deadline
        replies = self._asker.ask(name, asked, until=until, patience=patience, servers=request.servers) if asked else {}
        for number, reply in replies.items():
            if isinstance(reply, Lost):
                request.missing[number] = reply.reason
        if len(request.missing) == len(self.parts) or (request.missing and _REQUEST.get() is None):
            raise self._no_answer(request)  # also where nobody would be told that something is missing
        answers = {}
        for number, reply in replies.items():
            if isinstance(reply, Reply):
                request.saw(number, reply)
                answers[number] = reply.answer
        if request.missing.keys() & request.states.keys():
            raise MovedError
        self._remember(name, answers, request)
        return answers

    def _no_answer(self, request: Request) -> ApiError:
        names = {number: self.parts[number].name for number in request.missing}
        reasons = [  # where no replica is asked, each has its name already
            reason if reason.startswith(f"{names[number]} ") else f"{names[number]} {reason}"
            for number, reason in request.missing.items()
        ]
        message = f"shards of {self.name} do not answer: {'; '.join(reasons)}"
        return ApiError(503, message, code="no_shard", retry_after=1)

    def _remember(self, question: str, answers: Mapping[int, Any], request: Request) -> None:
        """Where documents are that were found."""
        for number, answer in answers.items():
            found: list[list[Hit]] = {"search": answer, "search_lexical": [answer]}.get(question, [])
            for hit in itertools.chain.from_iterable(found):
                other = request.places.setdefault(hit.id, number)
                if other != number:
                    self._tell_shared(hit.id, number, other)

    def _tell_shared(self, id_: str, *numbers: int) -> None:
        pair = frozenset(self.parts[number].name for number in numbers)
        if pair not in self._shared:
            self._shared.add(pair)
            LOGGER.warning("%s both hold %r; each document belongs into one shard", " and ".join(sorted(pair)), id_)

    def lexical_statistics(self, query: str) -> LexicalStatistics:
        """See :meth:`.ShardedIndex.lexical_statistics`; asked once in a request."""
        known = _request().statistics
        if query not in known:
            known[query] = super().lexical_statistics(query)
        return known[query]

    def query_words(self, query: str) -> QueryWords:
        """See :meth:`.ShardedIndex.query_words`; the statistics say all that is needed."""
        return query_words(query, self.settings["language"], self.lexical_statistics(query))

    def get(self, ids: Sequence[str]) -> list[IndexedDocument]:
        """See :meth:`.ShardedIndex.get`.

        Raises:
            ApiError: a document may be in a shard that does not answer.
        """
        return super().get(ids)

    def _held(self, ids: Sequence[str]) -> dict[int, list[str]]:
        request = _request()
        held: dict[int, list[str]] = {}
        elsewhere = [id_ for id_ in dict.fromkeys(ids) if id_ not in request.places]
        if elsewhere:
            try:
                held = super()._held(elsewhere)
            except KeyError as error:
                if not request.missing:
                    raise
                names = ", ".join(self.missing(request))
                message = f"the document {error.args[0]!r} is in none of the shards that answer; {names} does not"
                raise ApiError(503, message, code="no_shard", param="id", retry_after=1) from None
        for id_ in dict.fromkeys(ids):
            if id_ in request.places:
                held.setdefault(request.places[id_], []).append(id_)
        return held

    def missing(self, request: Request) -> list[str]:
        """Names of the shards that did not answer a request."""
        return [self.parts[number].name for number in sorted(request.missing)]

    def refresh(self) -> bool:
        """Look at every server; returns whether one of them has moved on to another commit, if only a replica."""
        servers = [replica for shard in self.parts for replica in shard.replicas]
        before = [replica.known for replica in servers]
        self._took_note(self._asker.look(self.deadline), self._known)
        return [replica.known for replica in servers] != before

    @property
    def sound(self) -> bool:
        """Whether any shard can be asked."""
        return any(shard.sound for shard in self.parts)

    def pinned(self) -> RemoteIndex:
        """The same, and closing it closes nothing: a request is what holds calls together."""
        pinned = copy.copy(self)
        pinned._owner = False
        return pinned

    @property
    def path(self) -> Path:
        """The name, for messages."""
        return Path(self.name)

    @property
    def generation(self) -> int:
        """Grows with each commit of each shard."""
        return sum(shard.known.generation for shard in self.parts if shard.known is not None)

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return self._known.dimension

    @property
    def memory_tokens(self) -> int:
        """Memory vectors kept per row; 0 = none."""
        return self._known.memory_tokens

    @property
    def encoder(self) -> dict[str, str]:
        """What made the vectors."""
        return dict(self._known.encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first shard, when it was looked at last: what it learns meanwhile counts."""
        known = self.parts[0].known
        if known is None or known.differs(self._known) is not None:
            known = self._known
        return dict(known.settings)

    def __len__(self) -> int:
        return sum(shard.known.documents for shard in self.parts if shard.known is not None)

    def ids(self, *, where: str | None = None) -> Iterator[str]:
        """Too many to be sent."""
        del where
        self._refuse("ids")

    def delete(self, ids: Sequence[str]) -> int:
        """Refused: shards are written to one by one."""
        del ids
        self._refuse("delete")

    def verify(self) -> list[Damage]:
        """Refused: each shard's own server can."""
        self._refuse("verify")

    def info(self) -> IndexInfo:
        """Refused: each shard's own server knows."""
        self._refuse("info")

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.path} lies in shards on other machines, and `{what}` is for one index on this one")

    def close(self) -> None:
        """End the connections."""
        if self._owner:
            self._asker.close()


def _request() -> Request:
    """The request to which a call belongs; a call of its own is one, too."""
    return _REQUEST.get() or Request()
