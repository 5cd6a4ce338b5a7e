"""A small client of HTTP: answers in every form, and connections that end."""

from __future__ import annotations

import asyncio

import pytest

from llm2comp_apps.serving.shards.connections import Answer, Connections, TransportError

HEAD = b"HTTP/1.1 200 OK\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
TO_THE_END = HEAD + b"\r\nhello"
LAST = HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"


def asked(answers: list[bytes], times: int, *, hang_up: bool = False) -> tuple[list[Answer | str], list[bytes]]:
    """What a client gets that asks several times; ``answers`` are those of each connection to its first questions."""
    requests: list[bytes] = []
    connections = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = next(connections)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
                requests.append(head + await reader.readexactly(int(length.split(b":")[1])))
                writer.write(answer)
                await writer.drain()
                if hang_up or answer in (TO_THE_END, LAST):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def ask() -> list[Answer | str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Connections({"authorization": "Bearer x"})
        found: list[Answer | str] = []
        for _ in range(times):
            try:
                found.append(await asyncio.wait_for(client.ask("POST", url, "/x", b"body"), 20))
            except TransportError as error:
                found.append(str(error))
            await asyncio.sleep(0.05)  # the end of a connection is seen
        client.close()
        server.close()
        return found

    return asyncio.run(ask()), requests


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
def test_a_connection_is_kept(answer):
    found, requests = asked([answer], 3)
    assert found == [Answer(200, b"hello")] * 3
    assert len(requests) == 3
    assert requests[0].startswith(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"authorization: Bearer x\r\n" in requests[0]
    assert requests[0].endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("answer", [TO_THE_END, LAST])
def test_a_connection_that_ends_is_not_used_again(answer):
    assert asked([answer] * 3, 3)[0] == [Answer(200, b"hello")] * 3


def test_a_connection_that_the_server_has_closed_is_replaced():
    found, requests = asked([WHOLE] * 3, 3, hang_up=True)
    assert found == [Answer(200, b"hello")] * 3
    assert len(requests) == 3


@pytest.mark.parametrize(
    "answer",
    [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nhello", b"nonsense\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n"],
)
def test_half_an_answer_is_none(answer):
    assert asked([answer], 1, hang_up=True)[0] == ["broke off the connection"]


def test_where_nobody_listens():
    async def ask() -> None:
        await Connections({}).ask("GET", "http://127.0.0.1:9", "/")

    with pytest.raises(TransportError, match="cannot be reached"):
        asyncio.run(ask())
