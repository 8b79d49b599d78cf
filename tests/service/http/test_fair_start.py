"""Requests start in turn, so that a client never waits for all requests of another."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from starlette.types import Scope

from service.http import fair_start
from service.http.fair_start import HURRY_S, MOST_AT_ONCE, OVERTAKING, SEVERAL, TURN_S, FairStart
from service.round_robin import MOST_COMPARED

BUSY = "127.0.0.2"

Ask = Callable[["Requests"], None]
Run = Callable[..., "Requests"]


class Requests:
    """Requests of clients, which keep who has started, and in which turn of the event loop.

    Attributes:
        seconds: of each request that starts; the last number stands for all that follow.
        now: the time, which passes only while a request starts.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self.started: list[str] = []
        self.by_turn: list[int] = []
        self.now = 0.0
        self.asked = 0
        self._seconds = seconds
        self._fair_start = FairStart(lambda scope: str(scope["client"][0]))

    def ask(self, client: str, number: int = 1, connection: object = None) -> None:
        """Ask for the start of requests, each on a connection of its own."""
        scope: Scope = {"type": "http", "client": (client, 1), "headers": []}
        for _ in range(number):
            self.asked += 1
            self._fair_start.ask(connection or object(), scope, lambda: self._start(client))

    def forget(self, connection: object) -> None:
        """Tell that a connection has been lost."""
        self._fair_start.forget(connection)

    def leave(self, connection: object) -> None:
        """Tell that a connection has been lost whose request waits."""
        self.asked -= 1
        self.forget(connection)

    async def watch(self) -> None:
        """Count the requests that start in each turn of the event loop, until all have started."""
        before = 0
        while True:
            self.by_turn.append(len(self.started) - before)
            before = len(self.started)
            if before == self.asked and len(self.by_turn) > 3:
                return
            await asyncio.sleep(0)

    def _start(self, client: str) -> None:
        self.now += self._seconds[min(len(self.started), len(self._seconds) - 1)]
        self.started.append(client)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Ask for the start of requests, and for that of others one turn later; return when all have started."""

    def run(ask: Ask, later: Ask = lambda _: None, seconds: Sequence[float] = (0,)) -> Requests:
        requests = Requests(seconds)
        monkeypatch.setattr(fair_start, "time", SimpleNamespace(perf_counter=lambda: requests.now))

        async def ask_and_watch() -> None:
            ask(requests)
            asyncio.get_running_loop().call_soon(later, requests)
            async with asyncio.timeout(20):
                await requests.watch()

        asyncio.run(ask_and_watch())
        return requests

    return run


def test_client_with_few_connections_waits_for_none_of_another(run: Run) -> None:
    """The request after a thousand of another client starts before all that wait."""

    def ask(requests: Requests) -> None:
        requests.ask("127.0.0.2", 1000)
        requests.ask("127.0.0.1")

    requests = run(ask)

    assert len(requests.started) == 1001
    assert requests.started.index("127.0.0.1") == MOST_AT_ONCE


def test_client_with_many_connections_goes_on_beside_clients_with_few(run: Run) -> None:
    """Every fourth request is the one of the client whose turn it is."""
    many, few = "127.0.0.4", "127.0.0.5"

    def ask(requests: Requests) -> None:
        _busy(requests)
        requests.ask(many, 60)
        requests.ask(few, 9)

    waited = run(ask).started[MOST_AT_ONCE + OVERTAKING :]

    assert waited[:12].count(few) == 9
    assert waited[:12].count(BUSY) + waited[:12].count(many) == 3


def _busy(requests: Requests) -> None:
    """A client that fills a turn of the event loop, and others that overtake it as often as they may in this turn."""
    requests.ask(BUSY, MOST_AT_ONCE + 20)
    requests.ask("127.0.0.3", OVERTAKING)


def test_connections_count_from_their_first_request(run: Run) -> None:
    """A client with five connections goes behind one with one, also when its requests have found an idle service."""
    few, many = "127.0.0.4", "127.0.0.5"

    def ask(requests: Requests) -> None:
        requests.ask(many, 4)
        _busy(requests)
        requests.ask(many)
        requests.ask(few)

    started = run(ask).started

    assert [client for client in started[4:] if client in {few, many}] == [few, many]


def test_lost_connections_do_not_count(run: Run) -> None:
    """A client whose other connections have been closed goes before a client with three."""
    client, other = "127.0.0.4", "127.0.0.5"
    lost = [object() for _ in range(10)]

    def ask(requests: Requests) -> None:
        for connection in lost:
            requests.ask(client, connection=connection)
        requests.ask(other, 2)
        for connection in lost:
            requests.forget(connection)
        _busy(requests)
        requests.ask(other)
        requests.ask(client)

    assert [each for each in run(ask).started[12:] if each in {client, other}] == [client, other]


def test_connection_counts_for_the_client_of_its_last_request(run: Run) -> None:
    """Behind a proxy, clients share connections: none keeps the connections that another one uses now."""
    light, other = "127.0.0.4", "127.0.0.5"
    shared = [object() for _ in range(5)]

    def ask(requests: Requests) -> None:
        for client in (light, other):
            for connection in shared:
                requests.ask(client, connection=connection)
        _busy(requests)
        requests.ask(other)
        requests.ask(light)

    assert [each for each in run(ask).started[10:] if each in {light, other}] == [light, other]


def test_requests_whose_clients_have_left_do_not_wait(run: Run) -> None:
    """A client that asks and leaves, again and again, would else fill the memory."""
    light, leaving = "127.0.0.4", "127.0.0.5"
    left = [object() for _ in range(1000)]

    def ask(requests: Requests) -> None:
        _busy(requests)
        for connection in left:
            requests.ask(leaving, connection=connection)
        for connection in left:
            requests.leave(connection)
        requests.ask(light)

    started = run(ask).started

    assert leaving not in started
    assert started[MOST_AT_ONCE + OVERTAKING] == light


def test_turns_go_on_after_a_start_that_fails() -> None:
    """Else no request would ever start again."""
    started = []

    def fail() -> None:
        raise MemoryError

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        fair_start = FairStart(lambda _: "127.0.0.1")
        for number in range(MOST_AT_ONCE):
            fair_start.ask(number, {}, lambda: None)
        fair_start.ask("fails", {}, fail)
        fair_start.ask("starts", {}, lambda: started.append(True))
        async with asyncio.timeout(5):
            while not started:
                await asyncio.sleep(0)

    asyncio.run(ask())


def test_request_to_an_idle_service_starts_at_once(run: Run) -> None:
    """A request to an idle service does not wait for the next turn of the event loop."""
    assert run(lambda requests: requests.ask("127.0.0.1")).by_turn[0] == 1


def test_one_starts_in_each_turn_when_each_is_long(run: Run) -> None:
    """Also in the first turn, when none waits yet."""
    requests = run(lambda requests: requests.ask("127.0.0.2", 6), seconds=[1])

    assert [started for started in requests.by_turn if started] == [1, 1, 1, 1, 1, 1]


def test_half_as_many_start_when_a_turn_was_too_long(run: Run) -> None:
    """The turn after it has half as many requests as it."""
    requests = run(lambda requests: requests.ask("127.0.0.2", 12), seconds=[*[0] * 7, 1, 0])

    assert [started for started in requests.by_turn if started] == [8, 4]


def test_more_start_when_turns_are_short(run: Run) -> None:
    """After a long turn, each short one is followed by one request more."""
    requests = run(lambda requests: requests.ask("127.0.0.2", 1 + 1 + 2 + 3 + 4), seconds=[1, 0])

    assert [started for started in requests.by_turn if started] == [1, 1, 2, 3, 4]


def _two_clients(requests: Requests) -> None:
    """A client with many connections, and one with two."""
    requests.ask("127.0.0.2", 40)
    requests.ask("127.0.0.3", 2)


def test_turns_are_short_while_several_clients_ask(run: Run) -> None:
    """One client's requests are computed together; a request of another one must not wait long in each of its turns."""
    alone = run(lambda requests: requests.ask("127.0.0.2", 80), seconds=[1.1 * TURN_S])
    beside_one = run(_two_clients, seconds=[1.1 * TURN_S])

    assert max(alone.by_turn) > max(beside_one.by_turn[10:]) == 1


def test_client_with_fewer_connections_overtakes_others(run: Run) -> None:
    """Its request starts in the turn in which it arrives."""
    client = "127.0.0.4"
    requests = run(_two_clients, lambda requests: requests.ask(client), seconds=[1.1 * TURN_S])

    assert requests.started.index(client) < sum(requests.by_turn[:2])


@pytest.mark.parametrize(
    ("second", "order"), [("first", "aab"), ("second", "aba")], ids=["as many connections", "fewer connections"]
)
def test_only_a_client_with_fewer_connections_overtakes(run: Run, second: str, order: str) -> None:
    """Clients with one connection each would else overtake each other again and again."""

    def ask(requests: Requests) -> None:
        requests.ask("a", connection="first")
        requests.ask("a", connection=second)
        requests.ask("b")

    assert "".join(run(ask, seconds=[1]).started) == order


def test_few_requests_overtake_in_one_turn(run: Run) -> None:
    """A thousand new addresses are not all answered before the clients that wait."""
    clients = [f"127.0.1.{number}" for number in range(OVERTAKING + 3)]

    def later(requests: Requests) -> None:
        for client in clients:
            requests.ask(client)

    requests = run(_two_clients, later, seconds=[1.1 * TURN_S])

    assert len({*clients}.intersection(requests.started[: sum(requests.by_turn[:2])])) == OVERTAKING


def test_no_client_overtakes_many(run: Run) -> None:
    """Hundreds of clients would overtake those that wait again and again."""

    def ask(requests: Requests) -> None:
        for number in range(MOST_COMPARED + 20):
            requests.ask(f"127.0.1.{number}", 2)

    requests = run(ask, lambda requests: requests.ask("127.0.0.4"), seconds=[1.1 * TURN_S])

    assert requests.started.index("127.0.0.4") > MOST_COMPARED


def _turns_after_a_newcomer(run: Run, others: int) -> list[int]:
    """The requests that start in each turn after a client has overtaken others, which have many connections each."""

    def ask(requests: Requests) -> None:
        for number in range(others):
            requests.ask(f"127.0.1.{number}", 60)

    return run(ask, lambda requests: requests.ask("127.0.0.4"), seconds=[HURRY_S / 20]).by_turn[3:]


def test_fewer_requests_of_several_others_start_beside_one_that_has_overtaken(run: Run) -> None:
    """Turns with many requests would each hold it up. Afterwards the number grows on."""
    turns = _turns_after_a_newcomer(run, SEVERAL)

    assert sorted(turns[:10]) == [0] * 5 + [1] * 5
    assert max(turns[40:]) > 1


def test_turns_are_not_held_short_beside_one_other_client(run: Run) -> None:
    """Its batches would be small, and its rate would fall to a half."""
    turns = _turns_after_a_newcomer(run, 1)

    assert max(turns[:10]) > 1
