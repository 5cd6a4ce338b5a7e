"""How to serve: what, where, to whom, and how much of it."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm2comp_apps import UsageError

__all__ = [
    "LOOPBACK",
    "Limits",
    "ServeSettings",
    "asked_settings",
    "is_address",
    "key_hash",
    "named_indexes",
    "usual_indexes",
]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
_HOST = re.compile(r"\*|[^\s/:@\[\]]+")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for, and how long it may wait.

    Attributes:
        body: bytes of a request's body.
        inputs: texts of a request for embeddings.
        memory_inputs: texts of a request for memory vectors, or for reranking by them.
        reranked: hits of a reranked page and of what stands before it.
        rerank_ms: milliseconds of reranking that a search may ask for.
        query: characters of a query.
        facets: fields whose values are counted.
        characters: of one text; a longer one would be cut by the encoder anyway.
        k: hits of one page, and of what stands before it (offset and limit together stay below ten times as much).
        condition_length: characters of a ``where`` condition.
        condition_depth: parentheses and negations inside each other in a ``where`` condition.
        max_wait: seconds that a request may have to wait for the encoder; more is refused with the time to come back.
        body_seconds: seconds in which a client has to send its body.
        requests: at work or waiting at once.
    """

    body: int = 32_000_000
    inputs: int = 10_000
    memory_inputs: int = 1_000
    reranked: int = 200
    rerank_ms: int = 10_000
    query: int = 20_000
    facets: int = 20
    characters: int = 4_000_000
    k: int = 1_000
    condition_length: int = 4_000
    condition_depth: int = 32
    max_wait: float = 30.0
    body_seconds: float = 30.0
    requests: int = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What to serve.

    Attributes:
        indexes: folders of indexes, each as ``PATH`` or ``NAME=PATH``.
        shards: indexes whose parts other servers have, each as ``[NAME=]URL,URL``; ``URL|URL`` are replicas of a shard.
        deadline: seconds that the shards' answers to one request may take; later ones are left out.
        shard_key: key that the shards' servers want.
        encoder: name of an encoder for embeddings; ``None`` for those of the indexes, or the default without indexes.
            Where there are shards it is theirs, where it lies now.
        load_encoders: whether the encoders of indexes are loaded; shards need none, their front has it.
        host: address to listen at.
        port: port to listen at; 0 for any that is free.
        key_hash: SHA-256 of the key that clients must send, see :func:`key_hash`; ``None`` for none.
        auth: whether an address beside loopback needs a key; turn off what others guard.
        allow_hosts: further names under which clients reach the server, for the check of the Host header.
        cors: origins of web pages that may read answers.
        watch: folders by the name of the index that follows each.
        write: whether clients may add and delete documents.
        device: where encoders run; ``None`` for the best there is.
        refresh_seconds: between two looks for commits of other programs.
        drain_seconds: for requests at work when the server is asked to stop.
        limits: of one request.

    Raises:
        UsageError: names the setting that makes no sense.
    """

    indexes: Sequence[str | Path] = ()
    shards: Sequence[str] = ()
    deadline: float = 2.0
    shard_key: str | None = field(default=None, repr=False)
    encoder: str | None = None
    load_encoders: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    key_hash: bytes | None = None
    auth: bool = True
    allow_hosts: Sequence[str] = ()
    cors: Sequence[str] = ()
    watch: Mapping[str, str | Path] = field(default_factory=dict)
    write: bool = False
    device: str | None = None
    refresh_seconds: float = 1.0
    drain_seconds: float = 30.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.host.strip():  # the system takes it for every address of this machine
            raise UsageError("must be an address or a name, and not empty", field="host")
        if not 0 <= self.port < 65536:
            raise UsageError(f"must be between 0 and 65535, not {self.port}", field="port")
        if not self.limits.max_wait > 0:  # which NaN is not either
            raise UsageError(f"must be above 0, not {self.limits.max_wait:g}", field="max_wait")
        if not 0 < self.deadline < math.inf:
            raise UsageError(f"must be above 0 and finite, not {self.deadline:g}", field="deadline")
        if self.shard_key is not None and not _can_be_sent(self.shard_key):
            raise UsageError("must be printable ASCII characters without blanks", field="shard_key")
        for name in self.allow_hosts:
            if not _HOST.fullmatch(name) and not is_address(name):
                raise UsageError(
                    f"must be a name alone, such as search.example.org; {name!r} is none", field="allow_hosts"
                )
        for origin in self.cors:
            if not _ORIGIN.fullmatch(origin):
                reason = f"must be origins as browsers send them, such as https://app.example; {origin!r} is none"
                raise UsageError(reason, field="cors")
        if self.host not in LOOPBACK and self.key_hash is None and self.auth:
            raise UsageError(
                f"{self.host} is reached by other machines: set `api_key`, or `no_auth` if something else guards it",
                field="host",
            )
        unknown = sorted(self.watch.keys() - named_indexes(self.indexes).keys())
        if unknown:
            raise UsageError(f"names the index {unknown[0]!r}, which is not served", field="watch")


def asked_settings(
    indexes: Sequence[str],
    watch: Sequence[str],
    followed: Callable[[str, str | None], str],
    *,
    api_key: str | None = None,
    shard_key: str | None = None,
    no_auth: bool = False,
    no_encoder: bool = False,
    max_wait: float = 30.0,
    encoder: str | None = None,
    device: str | None = None,
    shards: Sequence[str] = (),
    deadline: float | None = None,
    **settings: Any,
) -> ServeSettings:
    """The settings of a server as somebody asks for one.

    Args:
        indexes: to serve; without any, those that follow, else shards or an encoder, else :func:`usual_indexes`.
        watch: folders to follow.
        followed: makes the index that follows a folder on a device, or finds it.
        api_key: that clients must send.
        shard_key: that the shards' servers want; ``None`` for the same.
        no_auth: serve other machines without a key.
        no_encoder: load none.
        max_wait: see :class:`Limits`.
        encoder: see :class:`ServeSettings`.
        device: see :class:`ServeSettings`.
        shards: see :class:`ServeSettings`.
        deadline: see :class:`ServeSettings`; ``None`` for 2 seconds.
        **settings: others of :class:`ServeSettings`.

    Raises:
        UsageError: names the setting that makes no sense.
    """
    for name, given in {"encoder": encoder, "watch": watch, "device": device}.items():
        if no_encoder and given:
            raise UsageError("has no effect: `no_encoder` loads none", field=name)
    if deadline is not None and not shards:
        raise UsageError("has no effect: there is nothing to wait for without `shards`", field="deadline")
    following = {followed(folder, device): folder for folder in watch}
    named = list(dict.fromkeys([*indexes, *following]))
    return ServeSettings(
        indexes=named or ([] if encoder or shards else usual_indexes()),
        watch=dict(zip(named_indexes(list(following)), following.values(), strict=True)),
        key_hash=key_hash(api_key),
        shard_key=shard_key or api_key,
        auth=not no_auth,
        load_encoders=not no_encoder,
        limits=Limits(max_wait=max_wait),
        encoder=encoder,
        device=device,
        shards=shards,
        deadline=2.0 if deadline is None else deadline,
        **settings,
    )


def key_hash(key: str | None) -> bytes | None:
    """What is kept of a key.

    Raises:
        UsageError: the key is too short to guard anything, or cannot stand in a header.
    """
    if key is None:
        return None
    if len(key) < 8 or not _can_be_sent(key):
        raise UsageError("must be at least 8 printable ASCII characters without blanks", field="api_key")
    return hashlib.sha256(key.encode()).digest()


def _can_be_sent(key: str) -> bool:
    """Whether a key can stand in a header."""
    return bool(key) and key.isascii() and key.isprintable() and " " not in key


def is_address(name: str) -> bool:
    """Whether a host is called by its address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def usual_indexes() -> list[str]:
    """Indexes to serve where none are named: ``$LLM2COMP_INDEX``, else every ``*.index`` in the working directory."""
    named = os.environ.get("LLM2COMP_INDEX")
    return [named] if named else sorted(str(each) for each in Path().glob("*.index"))


def named_indexes(indexes: Sequence[str | Path]) -> dict[str, Path]:
    """Folders of indexes by the names under which they are served: ``library`` for ``books/library.index``.

    Raises:
        UsageError: two have the same name.
    """
    found: dict[str, Path] = {}
    for each in indexes:
        name, equals, path = str(each).partition("=")
        if not equals or os.sep in name or not name:
            name, path = "", str(each)
        folder = Path(path)
        name = name or folder.resolve().name.removesuffix(".index")
        if name in found:
            reason = f"would serve {found[name]} and {folder} under one name, {name!r}; write OTHER={folder}"
            raise UsageError(reason, field="index")
        found[name] = folder
    return found
