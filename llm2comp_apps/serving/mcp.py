"""Tools of the Model Context Protocol over indexes, for assistants that look things up.

Answers are small: hits are snippets under a budget of characters with a cursor for the rest, and a text is read by its
id when it is wanted. Nothing can be changed unless the server says so. The tools only ask the HTTP API (:mod:`.door`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError
from starlette.routing import BaseRoute

from llm2comp_apps import __version__
from llm2comp_apps.serving.door import AskError, Door, InnerDoor, path_segment
from llm2comp_apps.serving.state import State

__all__ = ["mcp_routes", "mcp_server"]

_INSTRUCTIONS = """Search over the user's own documents, by meaning and by words.
Start with `search`: it gives snippets. Read a whole text with `read` by the id of a hit. `similar` finds what is like a
document, `topics` shows what there is. Pass `cursor` of an answer to see more. `where` filters by fields, as in
"year >= 2020 and lang = 'en'"; `status` lists the indexes and their fields."""
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, idempotent_hint=True, destructive_hint=True, open_world_hint=False)
_FIELDS_LENGTH = 400  # characters of the fields of a hit; what is longer is for `read`
_FIELDS = 100
_DOCUMENTS_OF_TOPIC = 20
_KEYWORDS = 8
_RERANKED = 100  # hits that a search compares, as long as no page reaches beyond them
_ARGUMENTS = {"q": "query", "limit": "k", "offset": "cursor"}
"""Fields of requests that have another name as an argument of a tool."""

IndexName = Annotated[str | None, Field(description="Name of an index; without it, the first.")]
Budget = Annotated[int, Field(ge=200, le=100_000, description="Characters that the answer may have, roughly.")]
Where = Annotated[str | None, Field(description="Condition on fields, such as: year >= 2020 and lang = 'en'")]
Cursor = Annotated[str | None, Field(description="From the answer before, to see what follows.")]
Count = Annotated[int, Field(ge=1, le=50, description="Hits wanted.")]


class Hit(BaseModel):
    """A document that was found."""

    rank: int
    id: str
    score: float
    title: str
    snippet: str
    fields: dict[str, Any]


class Hits(BaseModel):
    """Some hits; `cursor` asks for more. Documents of the shards that are `missing` were not searched.

    `warnings` name fields of a condition that no document has.
    """

    hits: list[Hit]
    cursor: str | None
    answered_by: str
    missing: list[str] = []
    warnings: list[str] = []


class Text(BaseModel):
    """A document, or the piece of it from `start` to `end` of `length` characters."""

    id: str
    title: str
    text: str
    start: int
    end: int
    length: int
    fields: dict[str, Any]


class Texts(BaseModel):
    """Documents; `left_out` did not fit into the budget."""

    texts: list[Text]
    left_out: list[str]


class Topic(BaseModel):
    """A topic and how many documents it has."""

    id: int
    name: str
    size: int
    keywords: list[str]


class Topics(BaseModel):
    """Topics, the largest first, or the documents of one."""

    topics: list[Topic]
    documents: list[str]
    cursor: str | None


class Tools:
    """What the tools do; their docstrings are what an assistant reads.

    Args:
        door: whom they ask.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def _ask(self, method: str, index: str | None, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return await self._door.ask(method, self._door.index(index) + path, body)
        except AskError as error:
            raise ToolError(_told(error)) from error

    async def search(
        self,
        query: Annotated[str, Field(min_length=1, max_length=10_000, description="What to look for, in plain words.")],
        k: Count = 8,
        mode: Annotated[
            Literal["hybrid", "dense", "lexical"] | None,
            Field(description="dense: by meaning; lexical: by words; hybrid: both. Without it, the best there is."),
        ] = None,
        where: Where = None,
        index: IndexName = None,
        max_chars: Budget = 6_000,
        cursor: Cursor = None,
    ) -> Hits:
        """Search the documents. Gives snippets, not texts: read a text with `read` by its id."""
        offset = _offset(cursor)
        body: dict[str, Any] = {"q": query, "limit": k, "offset": offset, "mode": mode or await self._best_mode(index)}
        if body["mode"] == "hybrid" and offset < _RERANKED:
            # An assistant does not notice some milliseconds, but which hits are first. Reranking is for the best hits
            # alone, so that a page ends with them: behind it the others follow in the order of the first search.
            body |= {"rerank": "ltr", "limit": min(k, _RERANKED - offset)}
        body |= {} if where is None else {"where": where}
        found = await self._ask("POST", index, "/search", body)
        return self._hits(found, body["limit"], offset, max_chars)

    async def _best_mode(self, index: str | None) -> str:
        """By meaning and by words, where the index has an encoder to find out what a query means."""
        try:
            found = await self._door.indexes()
        except AskError as error:
            raise ToolError(_told(error)) from error
        modes = [each["modes"] for each in found if index in (None, each["name"])]
        return "hybrid" if modes and "hybrid" in modes[0] else "lexical"

    async def similar(
        self,
        id: Annotated[str, Field(min_length=1, description="Of a document.")],  # noqa: A002 - the word
        k: Count = 8,
        where: Where = None,
        index: IndexName = None,
        max_chars: Budget = 6_000,
    ) -> Hits:
        """Find the documents that are nearest to a document, by meaning."""
        body: dict[str, Any] = {"id": id, "limit": k} | ({} if where is None else {"where": where})
        found = await self._ask("POST", index, "/similar", body)
        return self._hits(found, None, 0, max_chars)

    def _hits(self, answer: dict[str, Any], page: int | None, offset: int, budget: int) -> Hits:
        """As many hits as the budget allows, one at least; ``page`` is how many there are if there may be more."""
        hits: list[Hit] = []
        found: list[dict[str, Any]] = answer["hits"]
        for number, each in enumerate(found):
            hit = Hit(
                rank=offset + number + 1, id=each["id"], score=round(each["score"], 4), title=each["title"],
                snippet=each["snippet"], fields=_short_fields(each["metadata"]),
            )  # fmt: skip
            budget -= len(hit.model_dump_json())
            if hits and budget < 0:
                break
            hits.append(hit)
        more = page is not None and (len(hits) < len(found) or len(found) == page)
        cursor = str(offset + len(hits)) if more else None
        notes = {"missing": answer.get("missingShards", []), "warnings": answer.get("warnings", [])}
        return Hits(hits=hits, cursor=cursor, answered_by=self._door.where, **notes)

    async def read(
        self,
        ids: Annotated[list[str], Field(min_length=1, max_length=20, description="Of documents.")],
        start: Annotated[int, Field(ge=0, description="Character of the first to begin at, to continue with it.")] = 0,
        index: IndexName = None,
        max_chars: Budget = 20_000,
    ) -> Texts:
        """Read documents by their ids. A text that is longer than the budget is cut; continue at its `end`."""
        texts: list[Text] = []
        for number, wanted in enumerate(ids):
            if max_chars < 200:
                return Texts(texts=texts, left_out=ids[number:])
            found = await self._ask("GET", index, f"/documents/{path_segment(wanted)}")
            length = len(found["text"])
            # Those behind the first were left out before, or never begun: their beginnings would be lost.
            begin = min(start, length) if number == 0 else 0
            text = found["text"][begin : begin + max_chars]
            max_chars -= len(text)
            texts.append(
                Text(id=found["id"], title=found["title"], text=text, start=begin, end=begin + len(text), length=length,
                     fields=found["metadata"])
            )  # fmt: skip
        return Texts(texts=texts, left_out=[])

    async def topics(
        self,
        topic: Annotated[int | None, Field(description="Id of a topic, to list its documents.")] = None,
        index: IndexName = None,
        max_chars: Budget = 6_000,
        cursor: Cursor = None,
    ) -> Topics:
        """List what the documents are about, or the documents of one topic. Needs `llm2comp cluster` to have run."""
        offset = _offset(cursor)
        if topic is not None:
            listed = await self._ask("GET", index, f"/topics/{topic}?offset={offset}&limit={_DOCUMENTS_OF_TOPIC}")
            shown = [each["id"] for each in listed["documents"]]
            end = offset + _DOCUMENTS_OF_TOPIC  # of the places that were looked at: deleted documents are not shown
            more = end < listed["topic"]["size"]
            return Topics(topics=[_topic(listed["topic"])], documents=shown, cursor=str(end) if more else None)
        found = (await self._ask("GET", index, "/topics"))["topics"]
        topics: list[Topic] = []
        found = sorted((each for each in found if each["level"] == 1), key=lambda each: -each["size"])
        for each in found[offset:]:
            made = _topic(each)
            max_chars -= len(made.model_dump_json())
            if topics and max_chars < 0:
                break
            topics.append(made)
        end = offset + len(topics)
        return Topics(topics=topics, documents=[], cursor=str(end) if end < len(found) else None)

    async def status(self) -> dict[str, Any]:
        """List the indexes: how many documents, which encoder, which fields, and who answers."""
        try:
            found = await self._door.indexes()
        except AskError as error:
            raise ToolError(_told(error)) from error
        for each in found:
            fields = (await self._ask("GET", each["name"], "/fields"))["fields"]
            each["fields"] = {field["name"]: field["type"] for field in fields[:_FIELDS]}
        return {"indexes": found, "answered_by": self._door.where}

    async def add(
        self,
        documents: Annotated[
            list[dict[str, Any]],
            Field(min_length=1, max_length=100, description="Each with id, text, and maybe title and metadata."),
        ],
        index: IndexName = None,
    ) -> dict[str, Any]:
        """Add documents, or replace those with the same ids."""
        answer: dict[str, Any] = await self._ask("POST", index, "/documents", {"documents": documents})
        return answer

    async def delete(
        self, ids: Annotated[list[str], Field(min_length=1, max_length=1000)], index: IndexName = None
    ) -> dict[str, Any]:
        """Delete documents by their ids."""
        answer: dict[str, Any] = await self._ask("POST", index, "/documents/delete", {"ids": ids})
        return answer


class StrictTool(Tool):
    """A tool that refuses arguments that it does not have, and says in short what is wrong with the others.

    A condition under another name than ``where`` would otherwise be passed over, and everything be found.
    """

    @classmethod
    def of(cls, function: Callable[..., Any], annotations: ToolAnnotations) -> StrictTool:
        """A function as a tool; its docstring is what an assistant reads."""
        tool = cls.from_function(function, annotations=annotations)
        assert isinstance(tool, cls)
        tool.parameters["additionalProperties"] = False
        return tool

    async def run(self, arguments: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """See :meth:`Tool.run`.

        Raises:
            ToolError: an argument is unknown or wrong, or what the tool says.
        """
        known = self.parameters["properties"]
        if unknown := [name for name in arguments if name not in known]:
            there = f"there are: {', '.join(known)}" if known else "it has none"
            raise ToolError(f"{unknown[0][:60]} is no argument of {self.name}; {there}")
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            faults = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
            raise ToolError("; ".join(f"{place}: {reason}" for place, reason in faults)) from error
        return await super().run(arguments, *rest, **named)


def mcp_server(door: Door, *, write: bool = False) -> MCPServer:
    """Tools over the indexes of a door.

    Args:
        door: whom the tools ask.
        write: offer ``add`` and ``delete``, too.
    """
    tools = Tools(door)
    reading: list[Callable[..., Any]] = [tools.search, tools.read, tools.similar, tools.topics, tools.status]
    writing: list[Callable[..., Any]] = [tools.add, tools.delete] if write else []
    offered: list[Tool] = [StrictTool.of(tool, _READS) for tool in reading]
    offered += [StrictTool.of(tool, _WRITES) for tool in writing]
    with _root_logger_kept():
        server = MCPServer(
            "llm2comp", instructions=_INSTRUCTIONS, version=__version__, tools=offered, log_level="WARNING"
        )

    @server.resource("doc://{index}/{id}", mime_type="text/plain", description="A document, title and text.")
    async def document(index: str, id: str) -> str:  # noqa: A002 - the word
        try:
            found = await door.ask("GET", f"{door.index(index)}/documents/{path_segment(id)}")
        except AskError as error:
            raise ResourceError(str(error)) from error
        return f"{found['title']}\n\n{found['text']}".strip()

    return server


def _told(error: AskError) -> str:
    """An error's line by the name that its field has as an argument."""
    field, message = error.field or "", str(error)
    argument = _ARGUMENTS.get(field)
    return f"{argument}{message.removeprefix(field)}" if argument and message.startswith(f"{field} ") else message


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:
        raise ToolError(f"not a cursor of an answer: {cursor[:50]!r}")
    return int(cursor)


def _topic(record: dict[str, Any]) -> Topic:
    words = [each["term"] for each in record["keywords"][:_KEYWORDS]]
    return Topic(id=record["id"], name=record["name"], size=record["size"], keywords=words)


def _short_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    """The fields that are short, as long as there is room."""
    room, kept = _FIELDS_LENGTH, {}
    for name, value in metadata.items():
        size = len(name) + len(str(value))
        if size <= room:
            kept[name] = value
            room -= size
    return kept


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """``MCPServer`` sets up logging for the whole process, which is not its business."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def mcp_routes(state: State) -> tuple[list[BaseRoute], Callable[[], AbstractAsyncContextManager[None]]]:
    """The tools at ``/mcp`` of a server: the routes, and what must run around them.

    The server's own guard looks at names, origins and keys before them.
    """
    server = mcp_server(InnerDoor(state), write=state.settings.write)
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unguarded)
    return list(app.routes), server.session_manager.run
