"""Large bodies are read in turns of the event loop, a few parts in each, and clients take turns."""

import asyncio

import pytest

from service.http.body_turns import PARTS, BodyTurns

pytestmark = pytest.mark.anyio


async def test_only_a_few_parts_are_read_in_one_turn() -> None:
    """The others are read in later turns, and each body has its place in the line."""
    turns, order = BodyTurns({}), []

    async def read(name: int) -> None:
        await turns.next_part("127.0.0.1")
        order.append(name)

    readers = [asyncio.create_task(read(name)) for name in range(3 * PARTS)]
    seen = []
    while len(order) < len(readers):
        await asyncio.sleep(0)
        seen.append(len(order))

    assert order == [*range(3 * PARTS)]
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == PARTS


async def test_bodies_that_are_given_up_leave_their_place_to_others() -> None:
    """A client that hangs up while its body waits does not hold a turn."""
    turns = BodyTurns({})
    for _ in range(PARTS):
        await turns.next_part("127.0.0.1")
    given_up = [asyncio.create_task(turns.next_part("127.0.0.1")) for _ in range(3 * PARTS)]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()

    async with asyncio.timeout(5):
        await turns.next_part("127.0.0.1")
    await asyncio.wait(given_up)


async def test_a_single_body_hardly_waits() -> None:
    """Its next part follows in the turn after it at the latest."""
    turns, order = BodyTurns({}), 0
    async with asyncio.timeout(5):
        for _ in range(10 * PARTS):
            await turns.next_part("127.0.0.1")
            order += 1

    assert order == 10 * PARTS


@pytest.mark.parametrize("connections", [{}, {"127.0.0.2": 100, "127.0.0.1": 1}], ids=["equal", "few and many"])
async def test_clients_take_turns(connections: dict[str, int]) -> None:
    """The body of one client does not wait for the bodies of another one's hundred connections."""
    turns, order = BodyTurns(connections), []

    async def read(client: str) -> None:
        await turns.next_part(client)
        order.append(client)

    readers = [asyncio.create_task(read(client)) for client in [*["127.0.0.2"] * 100, "127.0.0.1"]]
    await asyncio.wait(readers)

    assert order.index("127.0.0.1") <= 2 * PARTS


async def test_client_with_few_connections_goes_first_but_the_others_go_on() -> None:
    """Three of four parts are its own."""
    light, many = "127.0.0.1", "127.0.0.2"
    turns, order = BodyTurns({light: 1, many: 60}), []

    async def read(client: str) -> None:
        await turns.next_part(client)
        order.append(client)

    await asyncio.wait([asyncio.create_task(read(client)) for client in [many] * 50 + [light] * 12])

    assert [order[PARTS:][:16].count(client) for client in (light, many)] == [12, 4]
