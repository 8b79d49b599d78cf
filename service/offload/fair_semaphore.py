"""A fair semaphore: callers wait for one of a few places, and their clients take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

from ..round_robin import RoundRobin

LATELY_S = 5.0


class NoPlace(Exception):
    """The caller has not been given a place in time, or too many callers wait."""


class FairSemaphore:
    """A semaphore that is fair to clients: the client with the fewest places is next, and among equals they take turns.

    A client may have as many waiting callers as it leaves room for others. While another client has asked lately, the
    last free place is kept for a client that holds none: the work of one client can be long, and all callers of the
    other would find no place. A client that is alone has all places.
    """

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._held: Counter[str] = Counter()  # places by client; without clients that hold none
        self._waiting: RoundRobin[tuple[str, asyncio.Future[None]]] = RoundRobin()
        self._asked_at: OrderedDict[str, float] = OrderedDict()  # by client, the last one at the end

    @asynccontextmanager
    async def place(
        self, client: str, within_s: float | None = None, alone_within_s: float | None = None
    ) -> AsyncIterator[None]:
        """Hold a place in this block. A client waits for `alone_within_s` if no other client has asked lately.

        Without seconds a client waits until it is cancelled.

        Raises:
            NoPlace: there is none.
        """
        self._note(client)
        if self._may_hold_one_more(client):
            self._free -= 1
            self._held[client] += 1
        else:
            await self._wait(client, within_s if self._others_asked_lately(client) else alone_within_s)
        try:
            yield
        finally:
            self._pass_on(client)

    async def _wait(self, client: str, within_s: float | None) -> None:
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
        """Take a client's place back, and give free places to the callers whose turn it is."""
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self._free += 1
        while self._waiting and self._may_hold_one_more(self._waiting.next_client(self._held)):
            client, place = self._waiting.take(self._held)
            if not place.cancelled():  # its caller may not have noticed yet
                self._free -= 1
                self._held[client] += 1
                place.set_result(None)

    def _note(self, client: str) -> None:
        """Note that a client asks now."""
        now = time.monotonic()
        self._asked_at[client] = now
        self._asked_at.move_to_end(client)
        while next(iter(self._asked_at.values())) < now - LATELY_S:
            self._asked_at.popitem(last=False)

    def _may_hold_one_more(self, client: str) -> bool:
        """Whether there is a free place for the client: the last one is kept for others if it holds one already."""
        return self._free > 1 or (self._free == 1 and not (client in self._held and self._others_asked_lately(client)))

    def _others_asked_lately(self, client: str) -> bool:
        since = time.monotonic() - LATELY_S
        last_two = list(islice(reversed(self._asked_at.items()), 2))
        return any(other != client and asked_at >= since for other, asked_at in last_two)
