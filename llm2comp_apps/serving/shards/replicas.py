"""The servers of a shard: what is known of each, and which of them can be asked."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from llm2comp_apps.serving.shards.addresses import Address
from llm2comp_apps.serving.shards.wire import PROTOCOL

__all__ = ["Known", "Replica", "Shard"]

LOGGER = logging.getLogger(__name__)
_SAME = ("metric", "language")  # settings without which scores cannot be compared
_FAILURES = 2  # in succession, after which a replica is left alone until it answers a look
_REMEMBERED = 100  # answers whose times are kept
_ENOUGH = 20  # of them to count on
_LEAST_PATIENCE = 0.01
_NEW = "was not asked yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a replica says of itself.

    Attributes:
        generation: of its index.
        documents: in it.
        dimension: of vectors.
        memory_tokens: per vector; 0 for none.
        encoder: that made the vectors.
        settings: of the index.
        protocol: that it speaks.
    """

    generation: int
    documents: int
    dimension: int
    memory_tokens: int
    encoder: dict[str, str]
    settings: dict[str, Any]
    protocol: int

    def differs(self, other: Known) -> str | None:
        """Why both cannot be shards of one index; ``None`` if they can."""
        if self.protocol != PROTOCOL:
            return f"speaks version {self.protocol} of the protocol, and this front {PROTOCOL}"
        ours, theirs = self._identity(), other._identity()
        if wrong := [name for name in ours if ours[name] != theirs[name]]:
            name = wrong[0]
            if name == "fingerprint":
                return f"has vectors of the encoder {self._encoder()}, and the others of {other._encoder()}"
            return f"has the {name} {ours[name]!r}, and the others {theirs[name]!r}"
        return None

    def _identity(self) -> dict[str, Any]:
        settings = {name: self.settings.get(name) for name in _SAME}
        found = {"dimension": self.dimension, "memory_tokens": self.memory_tokens, **settings}
        return {"fingerprint": self.encoder.get("fingerprint"), **found}

    def _encoder(self) -> str:
        return f"{self.encoder.get('name', 'unknown')} ({str(self.encoder.get('fingerprint'))[:12]})"


class Replica:
    """One server with a shard.

    Attributes:
        address: where it is.
        index: the shard's name there; ``None`` until it has told.
        known: what it said when it was asked last; ``None`` if it never answered.
        trouble: why it is not asked; ``None`` if it is.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.index = address.index
        self.known: Known | None = None
        self.trouble: str | None = _NEW
        self._failures = 0

    def answered(self) -> None:
        """A question was answered."""
        self._failures = 0

    def failed(self, reason: str, *, at_once: bool = False) -> None:
        """A question was not; the replica is left alone after the second one, or ``at_once``."""
        self._failures += 1
        if self.trouble is None and (at_once or self._failures >= _FAILURES):
            LOGGER.warning("%s is not asked any more: it %s", self.address.name, reason)
            self.trouble = reason

    def seen(self, known: Known | None, trouble: str | None) -> None:
        """It was looked at: it is asked from now on, or not because of some trouble."""
        if trouble != self.trouble:
            if trouble is not None:
                LOGGER.warning("%s is not asked: it %s", self.address.name, trouble)
            elif self.trouble != _NEW:
                LOGGER.warning("%s is asked again", self.address.name)
        self.known = known or self.known
        self.trouble = trouble
        self._failures = 0


class Shard:
    """Some documents of an index, at one server or at several with the same documents.

    Attributes:
        name: for people, that of the first replica.
        replicas: its servers.
    """

    def __init__(self, addresses: tuple[Address, ...]) -> None:
        self.name = addresses[0].name
        self.replicas = [Replica(address) for address in addresses]
        self._seconds: dict[str, deque[float]] = {}

    @property
    def sound(self) -> list[Replica]:
        """Those that can be asked."""
        return [replica for replica in self.replicas if replica.trouble is None]

    @property
    def trouble(self) -> str:
        """Why none can be asked."""
        return "; ".join(f"{replica.address.name} {replica.trouble}" for replica in self.replicas if replica.trouble)

    @property
    def known(self) -> Known | None:
        """What a replica that can be asked says of the shard, else one that could be."""
        found = [replica.known for replica in [*self.sound, *self.replicas] if replica.known is not None]
        return found[0] if found else None

    def order(self, turn: int, before: Replica | None = None) -> list[Replica]:
        """The replicas to ask, one after another: the one that answered before, else each has its turn to be first."""
        sound = self.sound
        first = sound.index(before) if before in sound else turn % len(sound) if sound else 0
        return sound[first:] + sound[:first]

    def took(self, question: str, seconds: float) -> None:
        """An answer came after so long."""
        self._seconds.setdefault(question, deque(maxlen=_REMEMBERED)).append(seconds)

    def patience(self, question: str, most: float) -> float:
        """Seconds after which another replica is asked too: longer than 95 of 100 answers take."""
        seconds = sorted(self._seconds.get(question, ()))
        usual = most if len(seconds) < _ENOUGH else seconds[int(0.95 * len(seconds))]
        return min(most, max(_LEAST_PATIENCE, usual))

    def state(self) -> dict[str, Any]:
        """For people and programs that look after the front."""
        known = self.known
        return {
            "name": self.name,
            "ok": bool(self.sound),
            "documents": None if known is None else known.documents,
            "replicas": [
                {
                    "name": replica.address.name,
                    "ok": replica.trouble is None,
                    "trouble": replica.trouble,
                    "generation": None if replica.known is None else replica.known.generation,
                    "documents": None if replica.known is None else replica.known.documents,
                }
                for replica in self.replicas
            ],
        }
