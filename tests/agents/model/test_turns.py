import asyncio

import pytest

from caspers_lib.agents.model.turns import Turn, Turns


def test_who_is_back_comes_before_who_begins_and_each_in_order() -> None:
    done: list[str] = []

    async def work(turns: Turns, name: str, is_back: bool) -> None:
        await turns.take(is_back=is_back)
        done.append(name)
        turns.give_back()

    async def run() -> None:
        turns = Turns(1)
        await turns.take(is_back=False)
        waiting = [("begins 1", False), ("back 1", True), ("begins 2", False), ("back 2", True)]
        tasks = [asyncio.create_task(work(turns, *who)) for who in waiting]
        await asyncio.sleep(0)
        turns.give_back()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert done == ["back 1", "back 2", "begins 1", "begins 2"]


def test_no_more_work_side_by_side_than_allowed() -> None:
    async def run() -> int:
        turns, working, most = Turns(3), 0, 0

        async def work() -> None:
            nonlocal working, most
            async with Turn(turns, is_traced=True):
                working += 1
                most = max(most, working)
                await asyncio.sleep(0)
                working -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


@pytest.mark.parametrize("is_given_first", [False, True])
def test_a_turn_is_not_lost_with_one_who_is_cancelled(is_given_first: bool) -> None:
    async def run() -> None:
        turns = Turns(1)
        await turns.take(is_back=False)
        waiting = asyncio.create_task(turns.take(is_back=False))
        await asyncio.sleep(0)
        if is_given_first:
            turns.give_back()
            waiting.cancel()
        else:
            waiting.cancel()
            turns.give_back()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        await asyncio.wait_for(turns.take(is_back=False), 1)

    asyncio.run(run())


def test_a_call_holds_no_turn_while_it_connects_and_waits() -> None:
    events = (
        "connection.connect_tcp.started",
        "http11.send_request_headers.started",
        "http11.send_request_body.complete",
    )

    async def run() -> list[tuple[bool, bool]]:
        turns, found = Turns(1), []
        async with Turn(turns, is_traced=True) as turn:
            for event in events:
                await turn.trace(event, {})
                other = asyncio.create_task(turns.take(is_back=True))
                await asyncio.sleep(0)
                found.append((other.done(), turn.was_sent))
                if other.done():
                    turns.give_back()
                else:
                    other.cancel()
        return found

    assert asyncio.run(run()) == [(True, False), (False, True), (True, True)]
