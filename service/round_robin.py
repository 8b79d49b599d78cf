"""Round robin: items wait in a line for each client, and the clients take turns, or the one that holds least is next.

It does not know what the items are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

Item = TypeVar("Item")

NOTHING: Mapping[str, int] = MappingProxyType({})
ROUND = 4  # items, one of which `take_fairly` takes from the client whose turn it is
MOST_COMPARED = 50  # clients; to compare a thousand takes 54 µs


class RoundRobin(Generic[Item]):
    """The items that wait."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()  # the line of the next turn first; none is empty
        self._count = 0
        self._taken_fairly = 0

    def __len__(self) -> int:
        return self._count

    @property
    def clients(self) -> int:
        """The number of clients that have items."""
        return len(self._lines)

    def count(self, client: str) -> int:
        """The number of items of a client."""
        return len(self._lines.get(client, ()))

    def add(self, client: str, item: Item) -> None:
        """Put an item behind the other items of its client."""
        self._lines.setdefault(client, deque()).append(item)
        self._count += 1

    def next_client(self, held: Mapping[str, int] = NOTHING) -> str:
        """The client whose turn it is.

        The client with the smallest number in `held` comes first, and among equals the one that had no turn for the
        longest time.
        """
        return min(self._lines, key=lambda client: held.get(client, 0)) if held else next(iter(self._lines))

    def take(self, held: Mapping[str, int] = NOTHING) -> Item:
        """Remove and return the first item of the client whose turn it is; this client then has the last turn."""
        client = self.next_client(held)
        line = self._lines.pop(client)
        self._count -= 1
        item = line.popleft()
        if line:
            self._lines[client] = line
        return item

    def take_fairly(self, held: Mapping[str, int]) -> Item:
        """Take three of four items from the client with the smallest number in `held`, so that it hardly waits.

        The fourth is the item of the client whose turn it is, so that each client goes on. The same holds for all items
        while more than `MOST_COMPARED` clients wait.
        """
        self._taken_fairly += 1
        is_compared = self._taken_fairly % ROUND and self.clients <= MOST_COMPARED
        return self.take(held) if is_compared else self.take()

    def remove(self, client: str, item: Item) -> None:
        """Remove an item, unless it has been taken."""
        line = self._lines.get(client)
        if line is None or item not in line:
            return
        line.remove(item)
        self._count -= 1
        if not line:
            del self._lines[client]
