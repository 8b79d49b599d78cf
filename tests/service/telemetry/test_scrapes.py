"""The text of the metrics is made beside the event loop, once for all that wait for it, and once a second at most."""

import asyncio
import threading
import time

import pytest

from service.telemetry import scrapes
from service.telemetry.metrics import Metrics
from service.telemetry.scrapes import Scrapes

pytestmark = pytest.mark.anyio


class SlowMetrics(Metrics):
    """Metrics whose text waits for a sign, and which count their texts."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()
        self.began_at: list[float] = []

    def text(self) -> bytes:
        """The number of this text."""
        self.began_at.append(time.monotonic())
        self.may_end.wait()
        return str(len(self.began_at)).encode()


async def test_event_loop_turns_while_the_text_is_made() -> None:
    """Other requests are answered meanwhile; this test would not end otherwise."""
    metrics = SlowMetrics()
    text = asyncio.create_task(Scrapes(metrics).text())
    while not metrics.began_at:
        await asyncio.sleep(0)
    metrics.may_end.set()

    assert await text == b"1"


async def test_scrapes_that_come_while_a_text_is_made_share_the_next() -> None:
    """The text under way may lack what they have seen."""
    metrics = SlowMetrics()
    shared = Scrapes(metrics)
    first = asyncio.create_task(shared.text())
    while not metrics.began_at:
        await asyncio.sleep(0)
    later = [asyncio.create_task(shared.text()) for _ in range(100)]
    await asyncio.sleep(0)
    metrics.may_end.set()

    assert await first == b"1"
    assert set(await asyncio.gather(*later)) == {b"2"}


async def test_texts_are_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of scrapes costs no more than one a second."""
    monkeypatch.setattr(scrapes, "EVERY_S", 0.2)
    metrics = SlowMetrics()
    metrics.may_end.set()
    shared = Scrapes(metrics)
    for _ in range(3):
        await asyncio.gather(*(shared.text() for _ in range(10)))
    gaps = [later - earlier for earlier, later in zip(metrics.began_at, metrics.began_at[1:], strict=False)]

    assert len(metrics.began_at) == 3
    assert min(gaps) >= 0.19


async def test_scrape_that_leaves_takes_no_text_from_the_others() -> None:
    """A monitor may give up while others wait."""
    metrics = SlowMetrics()
    shared = Scrapes(metrics)
    leaver, stayer = asyncio.create_task(shared.text()), asyncio.create_task(shared.text())
    await asyncio.sleep(0)
    leaver.cancel()
    metrics.may_end.set()

    assert await stayer == b"1"


async def test_tasks_of_the_loop_are_counted() -> None:
    """The text is made in a thread, which has no event loop."""
    waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(50)]
    text = (await Scrapes(Metrics()).text()).decode()
    for task in waiting:
        task.cancel()

    assert float(text.split("\nlatentd_tasks ")[1].split("\n")[0]) >= 50
