"""A client that costs little itself: one connection, one request after the other."""

import asyncio
import time
from collections.abc import Sequence

__all__ = ["ask", "listen", "times_of"]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    """The body of an answer.

    Args:
        reader: of the connection.
        writer: of the connection.
        path: what is asked for, with its query.
    """
    length = (await _head(reader, writer, path)).partition("content-length: ")[2]
    return await reader.readexactly(int(length.partition("\r\n")[0]))


async def listen(port: int, path: str) -> asyncio.StreamWriter:
    """A connection that stays open after the answer's head.

    Args:
        port: on this machine.
        path: of a stream of events.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _head(reader, writer, path)
    return writer


async def times_of(port: int, paths: Sequence[str], clients: int, requests: int) -> list[float]:
    """The seconds that each answer took.

    Args:
        port: on this machine.
        paths: are asked for in turn; each client begins with another.
        clients: how many ask at once.
        requests: of all clients together.
    """
    taken: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(requests // clients):
            started = time.perf_counter()
            await ask(reader, writer, paths[(number + turn) % len(paths)])
            taken.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*map(client, range(clients)))
    return taken


async def _head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> str:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200"), (path, head)
    return head
