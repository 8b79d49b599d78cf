"""Requests begin in turn, so that a client never waits for all requests of another."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from service.http import fair_start
from service.http.fair_start import MOST_AT_ONCE, FairStart
from service.http.keys import Keys


class App:
    """An app that keeps who has begun, and in which turn of the event loop."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.by_turn: list[int] = []

    async def __call__(self, scope: Scope, _: Receive, __: Send) -> None:
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


def _run(ask: Callable[[FairStart], list[asyncio.Task[None]]], keys: Sequence[SecretStr] = ()) -> App:
    """Run requests to their end, but for those that were cancelled."""
    app = App()

    async def run() -> None:
        watching = asyncio.create_task(app.watch())
        asked = ask(FairStart(app, Keys(keys)))
        await asyncio.gather(*asked, return_exceptions=True)
        watching.cancel()

    asyncio.run(run())
    return app


def test_client_waits_for_few_requests_of_another() -> None:
    """The request after a thousand of another client begins in the next turn."""
    app = _run(lambda app: [*(_request(app, "127.0.0.2") for _ in range(1000)), _request(app, "127.0.0.1")])

    assert len(app.begun) == 1001
    assert app.begun.index("127.0.0.1") == MOST_AT_ONCE + 1


def test_request_to_an_idle_service_begins_at_once() -> None:
    """A request to an idle service does not wait for the next turn of the event loop."""
    app = _run(lambda app: [_request(app, "127.0.0.1")])

    assert app.by_turn[0] == 1


def test_fewer_begin_when_turns_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that takes too long is followed by half as many requests, and at least one."""
    monkeypatch.setattr(fair_start, "time", SimpleNamespace(perf_counter=count().__next__))
    app = _run(lambda app: [_request(app, "127.0.0.2") for _ in range(130)])

    assert [begun for begun in app.by_turn if begun] == [64, 32, 16, 8, 4, 2, 1, 1, 1, 1]


def test_more_begin_when_turns_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long turn, each short one is followed by one request more."""
    times = iter([0.0, 1.0, *[1.0] * 100])
    monkeypatch.setattr(fair_start, "time", SimpleNamespace(perf_counter=times.__next__))
    app = _run(lambda app: [_request(app, "127.0.0.2") for _ in range(64 + 32 + 33 + 1)])

    assert [begun for begun in app.by_turn if begun] == [64, 32, 33, 1]


def test_request_that_has_left_takes_no_turn() -> None:
    """The requests behind cancelled ones begin."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        asked = [_request(app, "127.0.0.2") for _ in range(200)]
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in asked[70:190]])
        return asked

    assert len(_run(ask).begun) == 80


def test_wrong_keys_of_one_address_are_one_client() -> None:
    """A client with a key does not wait behind a thousand keys that are wrong."""

    def ask(app: FairStart) -> list[asyncio.Task[None]]:
        wrong = [_request(app, "127.0.0.2", f"wrong-{number}") for number in range(1000)]
        return [*wrong, _request(app, "127.0.0.1", "right")]

    assert _run(ask, [SecretStr("right")]).begun.index("127.0.0.1") == MOST_AT_ONCE + 1
