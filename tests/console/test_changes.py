"""Live updates: server-sent events from one look at the database."""

import asyncio
from typing import Any

import httpx

from caspers_lib.console.web.events import Changes
from caspers_lib.errors import PostgresError


def test_a_page_hears_of_an_answer_and_of_a_decision(business: Any, client: httpx.Client) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    client.get("/api/refunds")
    with client.stream("GET", "/api/refunds/events", timeout=30) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        first = next(lines)
        business.refund("o-2")
        second = next(lines)
        body = {"decisions": [{"case_id": "o-1", "version": 0, "action": "reject", "key": "k"}]}
        assert client.post("/api/refunds/decisions", json=body).status_code == 200
        assert len({first, second, next(lines)}) == 3


def test_one_look_serves_all_who_listen_and_no_more_than_so_many_do() -> None:
    looks = 0

    def edition() -> int:
        nonlocal looks
        looks += 1
        return 7

    async def scene() -> None:
        changes = Changes(edition, beat=0.2, listeners=200)
        listeners = [changes.listen() for _ in range(200)]

        async def first(listener: Any) -> str:
            async for piece in listener:
                if piece.startswith("event"):
                    return str(piece)
            return ""

        heard = await asyncio.gather(*map(first, listeners))
        assert set(heard) == {"event: changed\nid: 7\ndata: 7\n\n"}
        assert looks == 1
        assert changes.is_full
        for listener in listeners:
            await listener.aclose()
        assert changes.listeners == 0

    asyncio.run(scene())


def test_a_database_that_fails_is_asked_again_until_the_server_stops() -> None:
    looks = 0

    def edition() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise PostgresError("It does not answer.")
        return looks

    async def scene() -> list[str]:
        changes = Changes(edition, beat=0.02)
        heard = []
        async for piece in changes.listen():
            heard.append(piece)
            if piece.startswith("event"):
                changes.close()
        return heard

    assert asyncio.run(scene()) == ["retry: 2000\n\n", "event: changed\nid: 2\ndata: 2\n\n"]
