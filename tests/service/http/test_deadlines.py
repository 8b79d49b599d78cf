"""Work that is late or whose client has left; most cases are tested over sockets, in `test_load.py`."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from service.errors import ClientGone, DeadlineExceeded
from service.http.deadlines import ROUND_S, Deadlines

pytestmark = pytest.mark.anyio


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No object is freed by a collection, which would stop the event loop."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(("limit_s", "leaves_after_s"), [(0.0, 60.0), (60.0, 0.0)], ids=["late", "left"])
async def test_work_that_is_ended_leaves_nothing_to_collect(limit_s: float, leaves_after_s: float) -> None:
    """An error and its traceback could refer to each other."""

    async def end() -> None:
        with pytest.raises((DeadlineExceeded, ClientGone)):
            await Deadlines().run_until(
                limit_s, asyncio.sleep(60), DeadlineExceeded(1.0, "wait"), lambda: asyncio.sleep(leaves_after_s)
            )

    await end()
    await asyncio.sleep(2 * ROUND_S)  # the last round, and the listener's end

    assert gc.collect() == 0


@pytest.mark.usefixtures("uncollected")
async def test_work_that_ends_by_itself_leaves_nothing_to_collect() -> None:
    """Its listener has begun to wait."""
    await Deadlines().run_until(
        60, asyncio.sleep(2 * ROUND_S), DeadlineExceeded(1.0, "wait"), lambda: asyncio.sleep(60)
    )
    await asyncio.sleep(2 * ROUND_S)

    assert gc.collect() == 0
