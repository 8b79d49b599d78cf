"""Runs NumPy's and torch's work on many bytes, which would hold up the event loop, in a pool of one thread per core.

Models are read from the store in other threads, so that slow pictures do not delay a new model.
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

LIGHT_ARRAY_BYTES = 65_536  # work on fewer bytes takes less time than handing it to a thread


async def offload(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function, in a thread of the pool if it works on more than `LIGHT_ARRAY_BYTES`; return its result."""
    if size <= LIGHT_ARRAY_BYTES:
        return function(*args, **kwargs)
    work = partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """The pool, made at its first use: a forked worker process would not have threads made before the fork."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="offload")
