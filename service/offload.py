"""Work that would hold up other requests goes to a thread, of which there are as many as cores.

They are nobody else's: however long pictures take, the threads that read models from the store are free.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LIGHT_BYTES = 65_536  # up to here the work takes about as long as handing it to a thread would


async def offload(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function gives; in a thread if it works on many bytes."""
    if size <= LIGHT_BYTES:
        return function(*args, **kwargs)
    work = partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """Made for the first that needs them, since threads do not live on in a process that is forked."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="offload")
