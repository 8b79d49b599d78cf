"""Turns: callers wait for one of a few places, and their clients take turns, so that one client never has them all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoTurn(Exception):
    """The caller has not been given a place in time, or too many callers wait."""


class Turns:
    """A semaphore that is fair to clients. A client may have as many waiting callers as it leaves room for others."""

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by client, in the order of turns

    @asynccontextmanager
    async def turn(self, client: str, within_s: float) -> AsyncIterator[None]:
        """Hold a place in this block.

        Raises:
            NoTurn: there is none.
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
        if len(self._lines.get(client, ())) >= self._most_waiting - self._waiting:
            raise NoTurn
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(place)
        self._waiting += 1
        try:
            async with asyncio.timeout(within_s):
                await place
        except BaseException as error:
            if place.cancelled():
                self._leave(client, place)
            else:
                self._pass_on()  # the place was given at the moment at which the wait ended
            if isinstance(error, TimeoutError):
                raise NoTurn from None
            raise

    def _leave(self, client: str, place: asyncio.Future[None]) -> None:
        line = self._lines.get(client, ())
        if place not in line:  # it had its turn after its caller was cancelled
            return
        self._waiting -= 1
        self._lines[client].remove(place)
        if not line:
            del self._lines[client]

    def _pass_on(self) -> None:
        """Give a place to the caller whose turn it is. Its client then has the last turn."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            place = line[0]
            self._leave(client, place)
            if line:
                self._lines.move_to_end(client)
            if not place.cancelled():  # its caller may not have noticed yet
                place.set_result(None)
                return
        self._free += 1
