"""Work goes on only while somebody waits for it: until the caller hangs up, or the deadline passes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from .call import Call
from .errors import ClientGone, DeadlineExceeded

T = TypeVar("T")


async def while_awaited(call: Call, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when nobody waits any more. The request's body must have been read.

    Raises:
        ClientGone: the caller hung up.
        DeadlineExceeded: the time for an answer is over.
    """
    limit_s = call.settings.timeout_s
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_hang_up(call.request))
    try:
        await asyncio.wait({working, leaving}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone if leaving.done() else DeadlineExceeded(limit_s)
    finally:
        working.cancel()
        leaving.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
