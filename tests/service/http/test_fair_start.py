"""Requests begin in turn, so that a client never waits for all requests of another."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from service.http import fair_start
from service.http.fair_start import HURRY_S, MOST_AT_ONCE, MOST_OVERTAKEN, OVERTAKING, SEVERAL, TURN_S, FairStart
from service.http.keys import Keys

Ask = Callable[[FairStart], list[asyncio.Task[None]]]
Run = Callable[..., "App"]


class App:
    """An app that keeps which clients have begun, and in which turn of the event loop.

    Attributes:
        seconds: of each request that begins; the last number stands for all that follow.
        now: the time, which passes only while a request begins.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self.begun: list[str] = []
        self.by_turn: list[int] = []
        self.now = 0.0
        self._seconds = seconds

    async def __call__(self, scope: Scope, _: Receive, __: Send) -> None:
        self.now += self._seconds[min(len(self.begun), len(self._seconds) - 1)]
        self.begun.append(scope["client"][0])

    async def watch(self) -> None:
        """Count the requests that begin in each turn of the event loop."""
        while True:
            before = len(self.begun)
            await asyncio.sleep(0)
            self.by_turn.append(len(self.begun) - before)


async def _nothing(*_: object) -> dict[str, object]:
    return {}


def _request(app: FairStart, client: str, key: str = "") -> asyncio.Task[None]:
    scope = {"type": "http", "client": (client, 1), "headers": [(b"authorization", f"Bearer {key}".encode())]}
    return asyncio.create_task(app(scope, _nothing, _nothing))  # type: ignore[arg-type]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run requests to their end, but for those that were cancelled."""

    def run(ask: Ask, keys: Sequence[SecretStr] = (), seconds: Sequence[float] = (0,)) -> App:
        app = App(seconds)
        monkeypatch.setattr(fair_start, "time", SimpleNamespace(perf_counter=lambda: app.now))

        async def ask_and_watch() -> None:
            watching = asyncio.create_task(app.watch())
            asked = ask(FairStart(app, Keys(keys)))
            await asyncio.gather(*asked, return_exceptions=True)
            watching.cancel()

        asyncio.run(ask_and_watch())
        return app

    return run


def _requests(app: FairStart, client: str, number: int) -> list[asyncio.Task[None]]:
    return [_request(app, client) for _ in range(number)]


def test_client_with_few_requests_waits_for_none_of_another(run: Run) -> None:
    """The request after a thousand of another client is the first one of the next turn."""
    app = run(lambda app: [*_requests(app, "127.0.0.2", 1000), _request(app, "127.0.0.1")])

    assert len(app.begun) == 1001
    assert app.begun.index("127.0.0.1") == MOST_AT_ONCE


def test_client_with_many_requests_goes_on_beside_clients_with_few(run: Run) -> None:
    """Behind the newcomer, every fourth request is the one of the client whose turn it is."""
    first, many, few = "127.0.0.2", "127.0.0.3", "127.0.0.4"
    app = run(lambda app: [*_requests(app, first, MOST_AT_ONCE), *_requests(app, many, 60), *_requests(app, few, 9)])

    assert app.begun[MOST_AT_ONCE:][:9] == [few, *[few, few, few, many] * 2]


def test_request_to_an_idle_service_begins_at_once(run: Run) -> None:
    """A request to an idle service does not wait for the next turn of the event loop."""
    app = run(lambda app: [_request(app, "127.0.0.1")])

    assert app.by_turn[0] == 1


def test_one_begins_in_each_turn_when_each_is_long(run: Run) -> None:
    """Also in the first turn, when none waits yet."""
    app = run(lambda app: _requests(app, "127.0.0.2", 6), seconds=[1])

    assert [begun for begun in app.by_turn if begun] == [1, 1, 1, 1, 1, 1]


def test_half_as_many_begin_when_a_turn_was_too_long(run: Run) -> None:
    """The turn after it has half as many requests as it."""
    app = run(lambda app: _requests(app, "127.0.0.2", 12), seconds=[*[0] * 7, 1, 0])

    assert [begun for begun in app.by_turn if begun] == [8, 4]


def test_more_begin_when_turns_are_short(run: Run) -> None:
    """After a long turn, each short one is followed by one request more."""
    app = run(lambda app: _requests(app, "127.0.0.2", 1 + 1 + 2 + 3 + 4), seconds=[1, 0])

    assert [begun for begun in app.by_turn if begun] == [1, 1, 2, 3, 4]


def test_turns_are_short_while_several_clients_ask(run: Run) -> None:
    """One client's requests are computed together; a request of another one must not wait long in each of its turns."""
    alone = run(lambda app: _requests(app, "127.0.0.2", 80), seconds=[1.1 * TURN_S])
    beside_one = run(
        lambda app: [*_requests(app, "127.0.0.2", 40), _request(app, "127.0.0.3"), *_requests(app, "127.0.0.2", 39)],
        seconds=[1.1 * TURN_S],
    )

    assert max(alone.by_turn) > max(beside_one.by_turn[10:]) == 1


def _arriving_later(clients: Sequence[str]) -> Ask:
    """Requests of two clients, and requests of other clients that arrive one turn later."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        asked = [*_requests(app, "127.0.0.2", 40), _request(app, "127.0.0.3")]
        asyncio.get_running_loop().call_soon(lambda: asked.extend(_request(app, client) for client in clients))
        return asked

    return ask


def test_client_without_a_waiting_request_overtakes_others(run: Run) -> None:
    """Its request begins in the turn in which it arrives."""
    client = "127.0.0.4"
    app = run(_arriving_later([client]), seconds=[1.1 * TURN_S])

    assert app.begun.index(client) < sum(app.by_turn[:2])


def test_client_overtakes_with_one_request_a_turn(run: Run) -> None:
    """Its others wait for turns, as do the requests of all."""
    client = "127.0.0.4"
    app = run(_arriving_later([client] * 5), seconds=[1.1 * TURN_S])

    assert app.begun[: sum(app.by_turn[:2])].count(client) == 1


def test_client_with_a_waiting_request_overtakes_none(run: Run) -> None:
    """A client with a thousand waiting requests would else begin one more in each turn."""
    waiting = "127.0.0.2"
    app, without = (run(_arriving_later(clients), seconds=[1.1 * TURN_S]) for clients in ([waiting], []))

    assert app.by_turn[1] == without.by_turn[1]


def test_few_clients_overtake_in_one_turn(run: Run) -> None:
    """A thousand new addresses are not all answered before the clients that wait."""
    clients = [f"127.0.1.{number}" for number in range(1, 6)]
    app = run(_arriving_later(clients), seconds=[1.1 * TURN_S])

    assert len({*clients}.intersection(app.begun[: sum(app.by_turn[:2])])) == OVERTAKING


def test_no_client_overtakes_many(run: Run) -> None:
    """Hundreds of clients with one request each would overtake those that wait again and again."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        asked = [_request(app, f"127.0.1.{number}") for number in range(MOST_OVERTAKEN + 20)]
        asyncio.get_running_loop().call_soon(lambda: asked.append(_request(app, "127.0.0.4")))
        return asked

    assert run(ask, seconds=[1.1 * TURN_S]).begun[-1] == "127.0.0.4"


def _turns_after_a_newcomer(run: Run, others: int) -> list[int]:
    """The requests that begin in each turn after a client has overtaken others, which have many requests each."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        asked = [each for number in range(others) for each in _requests(app, f"127.0.1.{number}", 60)]
        asyncio.get_running_loop().call_soon(lambda: asked.append(_request(app, "127.0.0.4")))
        return asked

    return run(ask, seconds=[HURRY_S / 20]).by_turn[3:]


def test_one_request_of_several_others_begins_in_a_turn_beside_one_that_has_overtaken(run: Run) -> None:
    """Turns with many requests would each hold it up. Afterwards the number grows on."""
    turns = _turns_after_a_newcomer(run, SEVERAL)

    assert turns[:10] == [1] * 10
    assert max(turns[20:]) > 1


def test_turns_are_not_held_short_beside_one_other_client(run: Run) -> None:
    """Its batches would be small, and its rate would fall to a half."""
    turns = _turns_after_a_newcomer(run, 1)

    assert max(turns[:10]) > 1


def test_request_that_has_left_takes_no_turn(run: Run) -> None:
    """The requests behind cancelled ones begin."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        asked = [_request(app, "127.0.0.2") for _ in range(200)]
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in asked[70:190]])
        return asked

    assert len(run(ask).begun) == 80


def test_wrong_keys_of_one_address_are_one_client(run: Run) -> None:
    """A client with a key does not wait behind a thousand keys that are wrong."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        wrong = [_request(app, "127.0.0.2", f"wrong-{number}") for number in range(1000)]
        return [*wrong, _request(app, "127.0.0.1", "right")]

    assert run(ask, [SecretStr("right")]).begun.index("127.0.0.1") == MOST_AT_ONCE
