"""Clients send and take at a minimum rate."""

import asyncio

import pytest

from service.listening.minimum_rate import MIN_BYTES, SHARE, WINDOW_S, MinimumRate

from .raw import statuses
from .test_framing import CHUNKED, LENGTH, Bodies
from .test_lone_connection import BOUNDS, GET, LONG, Waiting, answer_at_length, connected, heard, say, take, until

pytestmark = pytest.mark.anyio

POST = LENGTH % 10_000_000


def test_first_window_begins_with_the_first_call() -> None:
    """A client that has just begun is not slow."""
    rate = MinimumRate()

    assert [rate.is_too_slow(now, 0) for now in (100.0, 100.0 + WINDOW_S / 2, 100.0 + WINDOW_S)] == [
        False, False, True,
    ]  # fmt: skip


def test_client_that_brings_enough_in_each_window_goes_on() -> None:
    """Its bytes may come at once, at any time in the window."""
    rate = MinimumRate()

    assert not any(rate.is_too_slow(window * WINDOW_S, window * MIN_BYTES) for window in range(10))
    assert rate.is_too_slow(10 * WINDOW_S, 10 * MIN_BYTES - 1)


def test_smaller_count_begins_a_window() -> None:
    """The count belongs to another body, or to another answer."""
    rate = MinimumRate()
    rate.is_too_slow(0.0, 1_000_000)

    assert not rate.is_too_slow(WINDOW_S, 10)
    assert rate.is_too_slow(2 * WINDOW_S, 20)


@pytest.mark.parametrize("head", [POST, CHUNKED + b"ffffff\r\n"], ids=["length", "chunks"])
async def test_body_that_stops_is_408_long_before_its_deadline(head: bytes) -> None:
    """Its bytes hold memory that other clients need."""
    async with connected(Bodies()) as (connection, client):
        await say(client, head + bytes(100_000))
        await until(lambda: connection._framing.body_bytes == 100_000 and not connection.flow.read_paused)
        now = connection.loop.time()
        connection.close_if_overdue(now)
        connection.close_if_overdue(now + WINDOW_S)
        answers = await heard(client, 1)

    assert BOUNDS.body_s > WINDOW_S
    assert statuses(answers) == [408]
    assert b"less than 5,120 bytes in 5 s; send it faster" in answers


@pytest.mark.parametrize(("size", "expected"), [(MIN_BYTES, 200), (MIN_BYTES - 1, 408)])
async def test_body_goes_on_at_the_least_rate(size: int, expected: int) -> None:
    """A window that brings just enough is enough."""
    async with connected(Bodies()) as (connection, client):
        now = connection.loop.time()
        connection.data_received(LENGTH % (1000 + size) + bytes(1000))
        await asyncio.sleep(0)
        connection.close_if_overdue(now)
        connection.data_received(bytes(size - 1))
        connection.close_if_overdue(now + WINDOW_S - 1)
        connection.data_received(bytes(expected == 200))
        connection.close_if_overdue(now + WINDOW_S)
        connection.data_received(bytes(1))
        answers = await heard(client, 1)

    assert statuses(answers) == [expected]


async def test_large_body_has_to_come_faster() -> None:
    """Or a client could hold megabytes for some bytes a second."""
    held = 2 * SHARE * MIN_BYTES
    async with connected(Bodies()) as (connection, client):
        now = connection.loop.time()
        connection.data_received(POST + bytes(held))
        await until(lambda: not connection.flow.read_paused)
        connection.close_if_overdue(now)
        connection.data_received(bytes(MIN_BYTES))
        connection.close_if_overdue(now + WINDOW_S)
        answers = await heard(client, 1)

    assert statuses(answers) == [408]


async def test_client_is_not_blamed_while_the_service_does_not_read() -> None:
    """Nor while it waits for 100 Continue."""
    async with connected(Waiting()) as (connection, _):
        now = connection.loop.time()
        connection.data_received(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
        connection.close_if_overdue(now)
        connection.close_if_overdue(now + WINDOW_S)
        waits = not connection.transport.is_closing()
        connection.data_received(bytes(100_000))
        connection.flow.pause_reading()
        connection.close_if_overdue(now + WINDOW_S)
        connection.close_if_overdue(now + 2 * WINDOW_S)

        assert waits
        assert not connection.transport.is_closing()


async def test_answer_that_is_hardly_taken_is_broken_off_long_before_its_deadline() -> None:
    """A few bytes a second are not enough while megabytes wait."""
    async with connected(answer_at_length) as (connection, client):
        await say(client, GET)
        await until(lambda: connection.flow.write_paused)
        now = connection.loop.time()
        connection.close_if_overdue(now)
        await take(client, 100)
        connection.close_if_overdue(now + WINDOW_S)

        assert await take(client, LONG) < LONG


async def test_answer_that_is_taken_in_parts_goes_on() -> None:
    """Each window brings its part."""
    async with connected(answer_at_length) as (connection, client):
        await say(client, GET)
        await until(lambda: connection.flow.write_paused)
        now = connection.loop.time()
        taken = 0
        for window in range(3):
            connection.close_if_overdue(now + window * WINDOW_S)
            waiting = connection.transport.get_write_buffer_size()
            while taken < LONG and connection.transport.get_write_buffer_size() > waiting - MIN_BYTES:
                taken += await take(client, min(65_536, LONG - taken))
        taken += await take(client, LONG - taken)

    assert taken == LONG
