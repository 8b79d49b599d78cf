"""A fair semaphore: callers wait for one of a few places, and their clients take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..round_robin import RoundRobin


class NoPlace(Exception):
    """The caller has not been given a place in time, or too many callers wait."""


class FairSemaphore:
    """A semaphore that is fair to clients, so that one client never has all places.

    A client may have as many waiting callers as it leaves room for others.
    """

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()

    @asynccontextmanager
    async def place(self, client: str, within_s: float) -> AsyncIterator[None]:
        """Hold a place in this block.

        Raises:
            NoPlace: there is none.
        """
        if self._free:  # then no caller waits
            self._free -= 1
        else:
            await self._wait(client, within_s)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str, within_s: float) -> None:
        if self._waiting.count(client) >= self._most_waiting - len(self._waiting):
            raise NoPlace
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(client, place)
        try:
            async with asyncio.timeout(within_s):
                await place
        except BaseException as error:
            if place.cancelled():
                self._waiting.remove(client, place)
            else:
                self._pass_on()  # the place was given at the moment at which the wait ended
            if isinstance(error, TimeoutError):
                raise NoPlace from None
            raise

    def _pass_on(self) -> None:
        """Give a place to the caller whose turn it is."""
        while self._waiting:
            place = self._waiting.take()
            if not place.cancelled():  # its caller may not have noticed yet
                place.set_result(None)
                return
        self._free += 1
