"""Bodies of refused requests: the clients that send them wait for each other, and hold up no other client."""

import asyncio

import pytest

from service.listening.lingering_transport import LingeringTransport
from service.listening.unwanted_bodies import FREE_BYTES, READS, ROUND_S, UnwantedBodies

pytestmark = pytest.mark.anyio

LARGE = FREE_BYTES + 1


class Endless(asyncio.Transport):
    """A transport of a client that always has more to send."""

    def __init__(self, bodies: UnwantedBodies, reads: list["Endless"], client: str = "a") -> None:
        super().__init__()
        self.client = client
        self.is_reading_now, self.is_closed = True, False
        self._bodies, self._reads = bodies, reads
        self.lingering = LingeringTransport(self, lambda: True)

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True
        self.read(LARGE)

    def read(self, size: int) -> None:
        """Read as the event loop does."""
        self._reads.append(self)
        self._bodies.have_read(self.client, self.lingering, size)

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture
def reads() -> list[Endless]:
    """The transports that were read from, in order."""
    return []


async def test_clients_take_turns_a_few_in_each_round(reads: list[Endless]) -> None:
    """The event loop is free between the rounds, however many clients send."""
    bodies = UnwantedBodies()
    many = [Endless(bodies, reads, "a") for _ in range(10)]
    one = Endless(bodies, reads, "b")
    for client in (*many, one):
        client.read(LARGE)
    reads.clear()

    while len(reads) < 20:
        before = len(reads)
        await asyncio.sleep(ROUND_S / 10)
        assert len(reads) - before <= READS

    assert reads[1:20:2] == [one] * 10
    assert reads[0:20:2] == many


async def test_small_reads_are_not_paused(reads: list[Endless]) -> None:
    """A pause would cost more than they do."""
    client = Endless(UnwantedBodies(), reads)

    client.read(FREE_BYTES)

    assert client.is_reading_now


async def test_client_that_has_left_is_forgotten(reads: list[Endless]) -> None:
    """Its transport cannot be read any more."""
    bodies = UnwantedBodies()
    gone, there = Endless(bodies, reads), Endless(bodies, reads)
    gone.read(LARGE)
    there.read(LARGE)
    gone.is_closed = True

    while len(reads) < 5:
        await asyncio.sleep(ROUND_S / 10)

    assert reads[2:5] == [there] * 3
