"""Where shards are, as they are typed: ``[NAME=]URL,URL``, and ``URL|URL`` for the replicas of one shard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from llm2comp_apps import UsageError

__all__ = ["Address", "ShardedAddress", "parse_shards"]

_NAME = re.compile(r"([^=:/?#|,\s]+)=")
_INDEX = re.compile(r"/indexes/([^/]+)")


@dataclass(frozen=True, slots=True)
class Address:
    """A server with a shard.

    Attributes:
        url: of the server, ``http://a:8000``.
        index: the shard's name there; ``None`` if the server has no other index.
    """

    url: str
    index: str | None = None

    @property
    def name(self) -> str:
        """For people: host and port, and the index if it was named."""
        host = self.url.partition("://")[2]
        return host if self.index is None else f"{host}/indexes/{self.index}"


@dataclass(frozen=True, slots=True)
class ShardedAddress:
    """An index in shards.

    Attributes:
        name: under which it is served; ``None`` for what its shards are called.
        shards: the replicas of each.
    """

    name: str | None
    shards: tuple[tuple[Address, ...], ...]


def parse_shards(typed: str) -> ShardedAddress:
    """Read ``library=http://a:8000|http://b:8000,http://c:8000``: two shards, the first of which has two replicas.

    Raises:
        UsageError: it cannot be read, or one address is there twice.
    """
    found = _NAME.match(typed)
    name, rest = (found[1], typed[found.end() :]) if found else (None, typed)
    shards = tuple(tuple(_address(each) for each in shard.split("|")) for shard in rest.split(","))
    seen: set[Address] = set()
    for address in (each for shard in shards for each in shard):
        if address in seen:
            raise UsageError(f"names {address.name} twice", field="shards")
        seen.add(address)
    return ShardedAddress(name, shards)


def _address(typed: str) -> Address:
    try:
        parts = urlsplit(typed.strip())
        known = parts.scheme in ("http", "https") and _is_host(parts.hostname) and parts.port != 0
        known = known and parts.netloc.isascii() and "@" not in parts.netloc  # servers ask for a key, and no password
    except ValueError:  # a port that is no number, or too large; half of a bracket
        known = False
    path = parts.path.rstrip("/") if known else ""
    index = _INDEX.fullmatch(path)
    if not known or parts.query or (path and not index):
        expected = "http://HOST:PORT, or http://HOST:PORT/indexes/NAME where a server has several indexes"
        raise UsageError(f"must be addresses such as {expected}; {typed.strip()!r} is none", field="shards")
    return Address(f"{parts.scheme}://{parts.netloc.lower()}", unquote(index[1]) if index else None)


def _is_host(name: str | None) -> bool:
    """Whether it can be looked up: no label of a name is empty, or longer than 63 characters."""
    return bool(name and name.encode("idna"))
