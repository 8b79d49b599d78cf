"""Runners, asked for results."""

from collections.abc import Sequence

from service.compute.rows import Rows
from service.compute.runner import Runner
from service.compute.torch_runtime import ForwardPass


async def results(runner: Runner, name: ForwardPass, payloads: Sequence[Rows]) -> list[Rows]:
    """Return the result for each payload.

    Raises:
        Exception: the error of the first payload that has one.
    """
    found: list[Rows] = []
    for result in await runner.run(name, payloads):
        if isinstance(result, Exception):
            raise result
        found.append(result)
    return found
