"""Mutated requests over real sockets: no answer may be late, or an error of the service's own.

`fuzz` sends a number of them and reports its findings; the same seed sends the same bytes.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from . import good_requests

IN_TIME_S = 10.0  # several times the deadlines of the service that is fuzzed
QUIET_S = 0.2  # after an answer, the wait for another one
CONNECTIONS = 64
LONGEST = 200_000  # bytes of an input
NOT_IMPLEMENTED = 501  # the right answer to a body in chunks that is compressed inside them

_TOKENS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b"\xff\xfe", b"%00", b"%0d%0a", b"../", b"%2e%2e%2f", b" ", b"\t", b":", b"@",
    b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: -1\r\n",
    b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br,gzip\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Upgrade: h2c\r\n", b"Host: [\r\n", b"Host: a b\r\n", b"Range: bytes=0-\r\n", b"If-None-Match: *\r\n",
    b"Accept: */*;q=nan\r\n", b"Accept: \xff\r\n", b"Authorization: Bearer \xff\r\n", b"Origin: null\r\n", b"A" * 3_000,
    b"NaN", b"1e999", b"-1", b"99999999999999999999", b"null", b"true", b"[" * 500, b'"\\ud800"', b"{}", b"&n=0", b"?",
    b"seed=", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/3.0", b"ff\r\n", b"0\r\n\r\n",
)  # fmt: skip


@dataclass
class Findings:
    """The results: answers by status, connections closed without an answer, and inputs that showed bugs."""

    inputs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    bugs: list[tuple[str, bytes]] = field(default_factory=list)


def fuzz(host: str, port: int, inputs: int, seed: int, on_progress: Callable[[], object] = lambda: None) -> Findings:
    """Send requests, first each good one and each method at each route; `on_progress` is called after each."""
    return asyncio.run(_fuzz(host, port, inputs, seed, on_progress))


def mutated(seed: int) -> Iterator[bytes]:
    """Mutated good requests without end: one half mutated anywhere, the other half only in their bodies."""
    chance = random.Random(seed)  # noqa: S311  # it protects no secret
    seeds = [*good_requests.good(), *good_requests.any_method()]
    while True:
        content = chance.choice(seeds)
        head, body = content.split(b"\r\n\r\n", 1)
        if body and chance.random() < 0.5:  # or few inputs would reach the readers of bodies
            yield _with_body(head, _mutate(body, chance, seeds))
        else:
            yield _mutate(content, chance, seeds)


def _mutate(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        content = chance.choice(_MUTATIONS)(content, chance, seeds)
    return content[:LONGEST]


def _with_body(head: bytes, body: bytes) -> bytes:
    """A request with a mutated body and the right Content-Length."""
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head) + b"\r\n\r\n" + body


async def _fuzz(host: str, port: int, inputs: int, seed: int, on_progress: Callable[[], object]) -> Findings:
    findings, source = Findings(), chain(good_requests.good(), good_requests.any_method(), mutated(seed))

    async def worker() -> None:
        while findings.inputs < inputs:
            findings.inputs += 1
            await _try(host, port, next(source), findings)
            on_progress()

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return findings


async def _try(host: str, port: int, content: bytes, findings: Findings) -> None:
    try:
        async with asyncio.timeout(IN_TIME_S):
            answers = await _ask(host, port, content)
    except TimeoutError:
        findings.bugs.append(("no answer in time", content))
        return
    found = [int(status) for status in re.findall(rb"(?m)^HTTP/1\.1 (\d{3}) ", answers)]
    findings.statuses.update(found)
    findings.closed += not found
    if any(status >= 500 and status != NOT_IMPLEMENTED for status in found) or b"Traceback" in answers:
        findings.bugs.append((f"answered {found}", content))


async def _ask(host: str, port: int, content: bytes) -> bytes:
    """The answers to some bytes, until the service closes the connection or is quiet after an answer."""
    reader, writer = await asyncio.open_connection(host, port)
    answers = b""
    try:
        writer.write(content)
        while part := await _next(reader, QUIET_S if answers else None):
            answers += part
    except OSError:
        pass  # the service closed before all was sent: its answer counts
    finally:
        writer.transport.abort()
    return answers


async def _next(reader: asyncio.StreamReader, within_s: float | None) -> bytes:
    try:
        async with asyncio.timeout(within_s):
            return await reader.read(65_536)
    except TimeoutError:
        return b""


Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _span(content: bytes, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(content) + 1)
    return begin, min(len(content), begin + chance.choice((1, 2, 8, 64)))


def _flip(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    if not content:
        return b"\0"
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]


def _remove(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin, end = _span(content, chance)
    return content[:begin] + content[end:]


def _repeat(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin, end = _span(content, chance)
    return content[:end] + content[begin:end] * chance.choice((1, 2, 50)) + content[end:]


def _insert_token(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(_TOKENS) + content[at:]


def _insert_header(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin = content.find(b"\r\n") + 2
    return content[:begin] + chance.choice(_TOKENS) + content[begin:]


def _insert_noise(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.randbytes(chance.choice((1, 4, 64))) + content[at:]


def _cut(content: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _splice(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    other = chance.choice(seeds)
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _follow(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    return content + chance.choice(seeds)


_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _remove, _repeat, _insert_token, _insert_header, _insert_noise, _cut, _splice, _follow,
)  # fmt: skip
