"""One request: its body read within limits, its work raced against the client's leaving, its errors told."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import orjson
from llm2comp_indexes import FilterError, IndexLockedError, IndexStoreError, IndexWriteError, InputError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from llm2comp_apps import CorpusError, LLM2CompError, UsageError
from llm2comp_apps.serving.errors import ApiError, openai_error, tei_error
from llm2comp_apps.serving.schemas import Fields, parse_json
from llm2comp_apps.serving.state import State

__all__ = ["Call", "Face", "endpoint", "json_response"]

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
Face = Literal["openai", "tei", "own"]
"""Whose form of errors a route has, and the status of a wrong field: 400 as OpenAI has it, 422 elsewhere."""

_CLIENT_GONE = 499
_LONG_BODY = 1 << 17  # bytes; what takes more than a millisecond to parse goes to a thread
_INTEGER_BITS = 64  # those of at least so many bits are spelled
_DEPTH = 50  # levels of an answer; orjson writes 254, and metadata may have more
_PATH = re.compile(r"(?:/[^\s/:'\"]+){2,}/?")


@dataclass(slots=True)
class Call:
    """A request that is being answered.

    Attributes:
        request: of Starlette.
        state: of the server.
        fields: of the body, or of the query string of a GET or DELETE.
    """

    request: Request
    state: State
    fields: Fields

    @property
    def path(self) -> dict[str, str]:
        """The parts of the URL that the route names."""
        return self.request.path_params

    async def in_thread(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run what blocks in a thread."""
        return await self.state.in_thread(partial(work, *arguments, **named))

    async def result(self, future: Future[T]) -> T:
        """Wait for an engine; the work is dropped if the client leaves."""
        return await asyncio.wrap_future(future)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; vectors may be numpy rows, integers of any size, and metadata of any depth."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    try:
        body = orjson.dumps(value, option=option)
    except TypeError:  # its integers have at most 64 bits, and its values 254 levels; documents may hold more
        body = orjson.dumps(_spelled(value), option=option)
    return Response(body, status, headers, "application/json")


def _spelled(value: Any, depth: int = 0) -> Any:
    """The same, with integers beyond 64 bits and what lies deep as they are written in JSON."""
    if depth > _DEPTH and isinstance(value, dict | list):  # only metadata are so deep
        return orjson.Fragment(_written(value))
    if isinstance(value, int) and value.bit_length() >= _INTEGER_BITS:
        return orjson.Fragment(str(value))
    if is_dataclass(value):
        return {each.name: _spelled(getattr(value, each.name), depth + 1) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _spelled(each, depth + 1) for key, each in value.items()}
    return [_spelled(each, depth + 1) for each in value] if isinstance(value, list | tuple) else value


def _written(value: Any) -> str:
    """JSON of metadata, however deep: a writer that calls itself would end at a depth that depends on its callers."""
    pieces: list[str] = []
    todo: list[tuple[Any, bool]] = [(value, False)]  # what is yet to be written, and whether it is text already
    while todo:
        each, ready = todo.pop()
        if ready:
            pieces.append(each)
        elif isinstance(each, dict | list):
            names = [f"{json.dumps(key)}:" for key in each] if isinstance(each, dict) else [""] * len(each)
            values = list(each.values()) if isinstance(each, dict) else each
            opening, closing = "{}" if isinstance(each, dict) else "[]"
            todo.append((closing, True))
            for place in reversed(range(len(values))):
                todo += [(values[place], False), ("," * (place > 0) + names[place], True)]
            todo.append((opening, True))
        else:
            pieces.append(str(each) if type(each) is int else orjson.dumps(each).decode())
    return "".join(pieces)


def endpoint(
    handler: Callable[[Call], Awaitable[Response]],
    *,
    face: Face = "own",
    work: bool = True,
    known: frozenset[str] | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    """A route's function.

    Args:
        handler: translates a call.
        face: form of its errors.
        work: whether it counts as work, which a server that stops or has too much refuses.
        known: the fields that a request may have; ``None`` passes over others.
    """

    async def checked(call: Call) -> Response:
        if known is not None:
            call.fields.refuse_others(known)
            address = call.request.query_params
            for name in address if call.request.method == "POST" else ():
                raise call.fields.wrong(name[:50], "stands in the address; fields go into the body", "unknown_field")
            for name in address:
                if len(address.getlist(name)) > 1:  # only the last would count
                    raise call.fields.wrong(name[:50], "stands in the address more than once")
        return await handler(call)

    async def answer(request: Request) -> Response:
        state: State = request.app.state.llm2comp
        route = request.scope["route"].path if "route" in request.scope else request.url.path
        start = time.perf_counter()
        try:
            if work:
                state.enter()
            try:
                response = await _answered(request, state, checked, face)
            finally:
                if work:
                    state.leave()
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            response = error_response(error, face)
        state.metrics.requests.labels(route, str(response.status_code)).inc()
        state.metrics.request_seconds.labels(route).observe(time.perf_counter() - start)
        return response

    return answer


async def _answered(
    request: Request, state: State, handler: Callable[[Call], Awaitable[Response]], face: Face
) -> Response:
    status = 400 if face == "openai" else 422
    if request.method in ("GET", "HEAD", "DELETE"):
        return await handler(Call(request, state, Fields(dict(request.query_params), status)))
    try:
        body = await _body(request, state)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_GONE)  # nobody reads it
    long = len(body) > _LONG_BODY
    fields = await state.in_thread(partial(parse_json, body, status)) if long else parse_json(body, status)
    if face == "tei" and isinstance(parameters := fields.values.get("parameters"), dict):
        fields.values.update(parameters)  # where huggingface_hub puts what is not the input
    return await _unless_gone(request, handler(Call(request, state, fields)))


async def _body(request: Request, state: State) -> bytes:
    limits = state.settings.limits
    too_large = ApiError(413, f"the body must have at most {limits.body:,} bytes", code="body_too_large")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limits.body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.body:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {limits.body_seconds:g} seconds", code="timeout") from None
    return bytes(body)


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """Wait for the work, and drop it if the client leaves first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body has been read: only leaving can come
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Response(status_code=_CLIENT_GONE)  # nobody reads it
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def error_response(error: Exception, face: Face) -> Response:
    """The answer to a request that failed."""
    told = error if isinstance(error, ApiError) else _translated(error, 400 if face == "openai" else 422)
    value = tei_error(told) if face == "tei" else openai_error(told)
    return json_response(value, told.status, told.headers)


def _translated(error: Exception, wrong: int) -> ApiError:
    """An error of the rooms below."""
    message = _without_paths(str(error))
    if isinstance(error, UsageError) and error.field == "id":
        return ApiError(404, message, code="document_not_found", param="id")
    if isinstance(error, CorpusError):  # a document that no index can store
        return ApiError(wrong, message, code="invalid_value", param="documents")
    if isinstance(error, UsageError | FilterError | InputError):
        param = error.field or ("where" if isinstance(error, FilterError) else None)
        return ApiError(wrong, message, code="invalid_value", param=param)
    if isinstance(error, IndexLockedError):
        return ApiError(409, "another program is writing to this index", code="index_locked", retry_after=2)
    if isinstance(error, IndexWriteError):
        return ApiError(507, "the index cannot be written: " + message, code="index_not_writable")
    if isinstance(error, LLM2CompError | IndexStoreError):
        LOGGER.error("a request failed: %s", error)
        return ApiError(503, message, code="unavailable")
    LOGGER.error("a request failed", exc_info=error)
    return ApiError(500, "internal error; see the server's log", code="internal_error")


def _without_paths(message: str) -> str:
    """A message that names no folder of this machine."""
    return _PATH.sub(lambda found: found.group().rstrip("/").rpartition("/")[2], message)
