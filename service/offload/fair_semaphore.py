"""A fair semaphore: callers wait for one of a few places, and their clients take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..round_robin import RoundRobin


class NoPlace(Exception):
    """The caller has not been given a place in time, or too many callers wait."""


class FairSemaphore:
    """A semaphore that is fair to clients: the client with the fewest places is next, and among equals they take turns.

    A client may have as many waiting callers as it leaves room for others.
    """

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._held: Counter[str] = Counter()  # places by client; without clients that hold none
        self._waiting: RoundRobin[tuple[str, asyncio.Future[None]]] = RoundRobin()

    @asynccontextmanager
    async def place(self, client: str, within_s: float) -> AsyncIterator[None]:
        """Hold a place in this block.

        Raises:
            NoPlace: there is none.
        """
        if self._free:  # then no caller waits
            self._free -= 1
            self._held[client] += 1
        else:
            await self._wait(client, within_s)
        try:
            yield
        finally:
            self._pass_on(client)

    async def _wait(self, client: str, within_s: float) -> None:
        if self._waiting.count(client) >= self._most_waiting - len(self._waiting):
            raise NoPlace
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(client, (client, place))
        try:
            async with asyncio.timeout(within_s):
                await place
        except BaseException as error:
            if place.cancelled():
                self._waiting.remove(client, (client, place))
            else:
                self._pass_on(client)  # the place was given at the moment at which the wait ended
            if isinstance(error, TimeoutError):
                raise NoPlace from None
            raise

    def _pass_on(self, holder: str) -> None:
        """Give a client's place to the caller whose turn it is."""
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        while self._waiting:
            client, place = self._waiting.take(self._held)
            if not place.cancelled():  # its caller may not have noticed yet
                self._held[client] += 1
                place.set_result(None)
                return
        self._free += 1
