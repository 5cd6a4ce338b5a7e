"""One way to ask the HTTP API: a server at some address, or the application in this very process.

What answers questions for others (the tools of MCP) only knows this, so that it behaves alike beside a running server,
inside one, and alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from starlette.applications import Starlette

from llm2comp_apps import UsageError
from llm2comp_apps.serving.http import routes
from llm2comp_apps.serving.running import Running, find_running
from llm2comp_apps.serving.settings import ServeSettings
from llm2comp_apps.serving.state import State

__all__ = ["AskError", "Door", "InnerDoor", "OuterDoor", "StandingDoor", "path_segment"]

LOGGER = logging.getLogger(__name__)
_TIMEOUT = httpx2.Timeout(300, connect=5)
_PATIENCE = 120.0
"""Seconds for a server that asks to be asked later."""


class AskError(Exception):
    """What was asked failed; the message is meant for who asked.

    Attributes:
        field: of the request that is wrong, with which the message begins; ``None`` if it is not one alone.
        code: what went wrong, for programs.
    """

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class Door(ABC):
    """Asks an API.

    Attributes:
        names: of the indexes that may be asked for; the first is meant where none is named.
        where: who answers, for people.
    """

    names: tuple[str, ...] = ()
    where = ""

    @abstractmethod
    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the API answers.

        Args:
            method: ``GET``, ``POST`` or ``DELETE``.
            path: such as ``/indexes``.
            body: of the request.

        Raises:
            AskError: it was refused, or failed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of what was opened."""

    async def indexes(self) -> list[dict[str, Any]]:
        """What is known of the indexes that may be asked for.

        Raises:
            AskError: as for :meth:`ask`.
        """
        found = {each["name"]: each for each in (await self.ask("GET", "/indexes"))["results"]}
        return [found[name] for name in self.names if name in found]

    def index(self, name: str | None) -> str:
        """The path of an index, to be asked for.

        Raises:
            AskError: there is none of that name.
        """
        if name is None and self.names:
            return f"/indexes/{quote(self.names[0], safe='')}"
        if name not in self.names:
            raise AskError(f"there is no index {name!r}; there are: {', '.join(self.names)}")
        return f"/indexes/{quote(name, safe='')}"


class OuterDoor(Door):
    """A server at some address.

    Args:
        running: the server.
        key: that it wants.
    """

    def __init__(self, running: Running, key: str | None = None) -> None:
        self.names = running.names
        self.where = f"the server at {running.url}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.AsyncClient(base_url=running.url, headers=headers, timeout=_TIMEOUT)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """See :meth:`Door.ask`; raises ``httpx2.TransportError`` where nobody listens any more."""
        try:
            return await _asked(self._client, method, path, body)
        except AskError as error:
            if error.code != "invalid_api_key":
                raise
            reason = f"{self.where} wants another key; give it in LLM2COMP_API_KEY to the program that asks here"
            raise AskError(reason, code=error.code) from error

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()


class InnerDoor(Door):
    """The application in this process.

    Args:
        state: of a server that somebody else starts and closes.
    """

    where = "this server"

    def __init__(self, state: State) -> None:
        self.names = tuple(state.indexes)
        app = Starlette(routes=routes())
        app.state.llm2comp = state
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1", timeout=_TIMEOUT
        )

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """See :meth:`Door.ask`."""
        return await _asked(self._client, method, path, body)

    async def close(self) -> None:
        """Let go of the application."""
        await self._client.aclose()


class StandingDoor(Door):
    """A running server if there is one, else the application in this process, found when the first question comes.

    A server that ends is replaced: by another one, or by this process.

    Args:
        settings: the indexes, by folder, and how to serve them alone.
        key: for a server that wants one.
    """

    def __init__(self, settings: ServeSettings, key: str | None = None) -> None:
        if not settings.indexes:
            raise UsageError("no index here; name one, or make one with: llm2comp index build CORPUS")
        self._settings = settings
        self._key = key
        self._state = State(settings)  # opens the indexes: what is wrong with them is said at the start
        self._paths: Sequence[Path] = [served.path for served in self._state.indexes.values()]
        self._door: Door | None = None
        self._started = False
        self.names = tuple(self._state.indexes)
        self.where = ""

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """See :meth:`Door.ask`."""
        door = self._door or self._open()
        try:
            return await door.ask(method, self._renamed(door, path), body)
        except httpx2.TransportError as error:
            LOGGER.info("%s does not answer any more (%s)", door.where, error)
            if self._door is door:  # else another question found out first, and opened the next one
                self._door = None
            with contextlib.suppress(httpx2.HTTPError):
                await door.close()
            door = self._door or self._open(dead=door)
            return await door.ask(method, self._renamed(door, path), body)

    async def indexes(self) -> list[dict[str, Any]]:
        """See :meth:`Door.indexes`; under the names that they have here."""
        await self.ask("GET", "/livez")
        assert self._door is not None
        found = await self._door.indexes()
        return [{**each, "name": name} for name, each in zip(self.names, found, strict=True)]

    def _open(self, dead: Door | None = None) -> Door:
        """Find out who answers; not again who did not."""
        running = find_running(self._paths, write=self._settings.write)
        if running is not None and (self._key or not running.key):
            self._door = OuterDoor(running, self._key)
        if self._door is None or (dead is not None and self._door.where == dead.where):
            if not self._started:
                self._state.start()
                self._started = True
            self._door = InnerDoor(self._state)
        self.where = self._door.where
        return self._door

    def _renamed(self, door: Door, path: str) -> str:
        """A path with the name that an index has there."""
        for ours, theirs in zip(self.names, door.names, strict=True):
            head = f"/indexes/{quote(ours, safe='')}"
            if path == head or path.startswith(f"{head}/"):
                return f"/indexes/{quote(theirs, safe='')}" + path.removeprefix(head)
        return path

    async def close(self) -> None:
        """End connections; an encoder that was loaded here stays for the next question."""
        if self._door is not None:
            with contextlib.suppress(httpx2.HTTPError):
                await self._door.close()
        self._door = None


def path_segment(name: str) -> str:
    """A name as one segment of a path, also one that means a folder there."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


async def _asked(client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> Any:
    """The content of an answer; waits for a server that loads its encoder, or has too much to do at the moment."""
    patience = _PATIENCE
    while True:
        response = await client.request(method, path, json=body)
        pause = response.headers.get("retry-after", "")
        if response.status_code not in (429, 503) or not pause.isdecimal() or patience <= 0:
            return _content(response)
        pause_seconds = min(max(0.2, float(pause)), patience)
        patience -= pause_seconds
        await asyncio.sleep(pause_seconds)


def _content(response: httpx2.Response) -> Any:
    try:
        content = response.json()
    except ValueError:
        content = {}
    if response.is_success:
        return content
    error = content.get("error") if isinstance(content, dict) else None
    told = error if isinstance(error, dict) else {"message": error}
    message = str(told.get("message") or f"the server answers {response.status_code}")
    raise AskError(message, field=told.get("param"), code=told.get("code"))
