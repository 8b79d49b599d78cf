"""The places of a pool: clients take turns, and no place is lost."""

import asyncio
from contextlib import suppress

import pytest

from service.offload import fair_semaphore
from service.offload.fair_semaphore import FairSemaphore, NoPlace

pytestmark = pytest.mark.anyio


class Place:
    """Callers that hold a place until they are told to leave; each writes its client down when it gets the place."""

    def __init__(self, places: int = 1, most_waiting: int = 32) -> None:
        self.places = FairSemaphore(places, most_waiting)
        self.had: list[str] = []
        self._leave = asyncio.Semaphore(0)

    async def _call(self, client: str, within_s: float) -> None:
        async with self.places.place(client, within_s, within_s):
            self.had.append(client)
            await self._leave.acquire()

    async def calls(self, clients: str, within_s: float = 600) -> list[asyncio.Task[None]]:
        """Callers that ask for the place, one for each letter."""
        tasks = [asyncio.create_task(self._call(client, within_s)) for client in clients]
        await settle()
        return tasks

    async def leave(self, times: int) -> None:
        """End the work of the callers that hold the place, one after the other."""
        for _ in range(times):
            self._leave.release()
            await settle()


async def settle() -> None:
    """Run the event loop until nothing more happens."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_clients_take_turns() -> None:
    """A client that comes last, and once, has the next turn but one."""
    place = Place()
    tasks = await place.calls("aaaaab")

    await place.leave(6)

    assert "".join(place.had) == "aabaaa"
    await asyncio.gather(*tasks)


async def test_client_with_fewer_places_is_first() -> None:
    """Long work of one client has all places; the first that comes free is for another client."""
    place = Place(places=3)
    tasks = await place.calls("aaaaab")

    await place.leave(6)

    assert "".join(place.had) == "aaabaa"
    assert not place.places._held
    await asyncio.gather(*tasks)


async def test_last_place_is_kept_for_another_client_that_has_asked_lately() -> None:
    """One client's work may be long; the other finds a place at once, again and again."""
    place = Place(places=2)
    tasks = await place.calls("baaa")
    await place.leave(1)

    again = await place.calls("b")

    assert "".join(place.had) == "bab"
    await place.leave(4)
    await asyncio.gather(*tasks, *again)


async def test_client_that_is_alone_has_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has not asked for a while."""
    monkeypatch.setattr(fair_semaphore, "LATELY_S", 0.0)
    place = Place(places=2)
    tasks = await place.calls("baaa")

    await place.leave(1)

    assert "".join(place.had) == "baa"
    await place.leave(3)
    await asyncio.gather(*tasks)


async def test_client_leaves_room_for_callers_of_others() -> None:
    """One client has half of the waiting places at most."""
    place = Place(most_waiting=4)
    tasks = await place.calls("aaaaab")

    assert [task.done() for task in tasks] == [False, False, False, True, True, False]
    assert isinstance(tasks[3].exception(), NoPlace)

    await place.leave(4)
    assert "".join(place.had) == "aaba"
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_caller_that_waits_too_long_is_told() -> None:
    """The place goes to the next one."""
    place = Place()
    tasks = await place.calls("a")
    late = await place.calls("a", within_s=0)
    tasks += await place.calls("b")

    await place.leave(2)

    assert place.had == ["a", "b"]
    with pytest.raises(NoPlace):
        await late[0]
    await asyncio.gather(*tasks)


async def test_client_waits_longer_for_its_own_callers_than_beside_another_client() -> None:
    """Alone it loses nothing by waiting; beside another client it is told soon."""
    places = FairSemaphore(1, 32)

    async with places.place("a", 0.0, 600):
        alone = asyncio.create_task(hold(places, "a"))
        await settle()
        assert not alone.done()
        with pytest.raises(NoPlace):
            await hold(places, "b")
        with pytest.raises(NoPlace):
            await hold(places, "a")
    await alone


async def hold(places: FairSemaphore, client: str) -> None:
    """Hold a place for a moment."""
    async with places.place(client, 0.0, 600):
        pass


@pytest.mark.parametrize("is_given_first", [True, False])
async def test_caller_cancelled_at_its_turn_loses_no_place(is_given_first: bool) -> None:
    """The place comes free, and the caller is cancelled, in one turn of the event loop."""
    places = FairSemaphore(1, 4)
    first = places.place("a", 600, 600)
    await first.__aenter__()
    second = asyncio.create_task(places.place("b", 600, 600).__aenter__())
    await settle()

    steps = [first.__aexit__(None, None, None), cancelled(second)]
    for step in steps if is_given_first else reversed(steps):
        await step
    await settle()

    async with places.place("c", 0, 0):
        pass


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task, which notices later."""
    with suppress(asyncio.InvalidStateError):
        task.cancel()
