"""`python -m tests.reliability.attackers FILE`: clients that attack, each in a process with an address of its own.

The file is a JSON list of `Attacker`. The service tells the clients apart by their loopback addresses. All of them
together have the lowest priority, since real attackers have machines of their own. The program says that it is ready,
begins when it is told, and in the end writes a JSON list: how often each attacker got each status.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CLOSED = "closed"  # in place of a status, where the service ended the connection without an answer
NICE = 19
MORE_S = 60.0  # for attackers that have little of the processor to end
PAUSE_S = 0.05  # between the bytes of those that are slow
CHUNKS = b"1\r\nx\r\n" * 1000
IN_A_ROW = 16  # requests that are sent at once
RECEIVED = 65_536  # bytes that are taken at once
_LENGTH = re.compile(rb"content-length: (\d+)")


class Client:
    """One connection of the attacker, and the statuses that all of them have got."""

    def __init__(self, connection: socket.socket, statuses: Counter[str]) -> None:
        self.connection = connection
        self.statuses = statuses
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    async def send(self, content: bytes) -> None:
        """Send bytes; the kernel gets them without a copy, so that 64 large bodies take no memory here."""
        await self._loop.sock_sendall(self.connection, content)

    async def receive(self, size: int = RECEIVED) -> bytes:
        """Bytes of an answer, or none if the service has ended the connection."""
        return await self._loop.sock_recv(self.connection, size)

    async def take_answer(self) -> bool:
        """Count the status of an answer and throw its body away; tell whether there was one."""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in self._received:
                if not (more := await self.receive()):
                    self.statuses[CLOSED] += 1
                    return False
                self._received += more
            end = self._received.index(b"\r\n\r\n") + 4
            head = bytes(self._received[:end])
            del self._received[:end]
            self.statuses[head[9:12].decode()] += 1
            await self._throw_away(int(found[1]) if (found := _LENGTH.search(head)) else 0)
            return b"connection: close" not in head
        self.statuses[CLOSED] += 1
        return False

    async def _throw_away(self, size: int) -> None:
        while size > len(self._received):
            size -= len(self._received)
            self._received = bytearray(await self.receive())
            if not self._received:
                return
        del self._received[:size]


async def ask(client: Client, request: bytes) -> None:
    """Send the request, take its answer, and begin again at once."""
    is_open = True
    while is_open:
        with suppress(ConnectionError):  # the service may answer before it has read all
            await client.send(request)
        is_open = await client.take_answer()


async def ask_in_a_row(client: Client, request: bytes) -> None:
    """Send many requests behind one another, and then take their answers."""
    is_open = True
    while is_open:
        with suppress(ConnectionError):
            await client.send(request * IN_A_ROW)
        for _ in range(IN_A_ROW):
            is_open = is_open and await client.take_answer()


async def ask_and_leave(client: Client, request: bytes) -> None:
    """Send the request, and leave before it is answered."""
    await client.send(request)
    await asyncio.sleep(PAUSE_S)
    client.statuses["left"] += 1


async def ask_and_half_close(client: Client, request: bytes) -> None:
    """Send the request, say that no more will follow, and take the answer."""
    await client.send(request)
    client.connection.shutdown(socket.SHUT_WR)
    await client.take_answer()


async def send_by_bytes(client: Client, request: bytes) -> None:
    """Send the request byte by byte."""
    with suppress(ConnectionError):
        for byte in request:
            await client.send(bytes([byte]))
            await asyncio.sleep(PAUSE_S)
    await client.take_answer()


async def send_chunks(client: Client, request: bytes) -> None:
    """Send chunks of one byte as quickly as the service takes them."""
    await client.send(request)
    with suppress(ConnectionError):
        while True:
            await client.send(CHUNKS)
    await client.take_answer()


async def send_and_wait(client: Client, request: bytes) -> None:
    """Send the part of a request that is there, and wait for the service."""
    with suppress(ConnectionError):
        await client.send(request)
    await client.take_answer()


async def take_slowly(client: Client, request: bytes) -> None:
    """Ask for much, and take a little of it now and then."""
    await client.send(request * IN_A_ROW)
    while await client.receive(500):
        await asyncio.sleep(PAUSE_S)
    client.statuses[CLOSED] += 1


Way = Callable[[Client, bytes], Awaitable[None]]
WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        ask, ask_in_a_row, ask_and_leave, ask_and_half_close, send_by_bytes, send_chunks, send_and_wait, take_slowly,
    )
}  # fmt: skip


class Attacker(NamedTuple):
    """One client that attacks: the name of its way, the file of its request, and its address."""

    way: str
    request: str
    port: int
    address: str
    connections: int
    seconds: float


async def attack(attacker: Attacker) -> Counter[str]:
    """Attack with a number of connections, each of which is opened again when it has ended; count the statuses."""
    statuses: Counter[str] = Counter()
    way, request = WAYS[attacker.way], Path(attacker.request).read_bytes()

    async def go_on() -> None:
        while True:
            with socket.socket() as connection, suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
                connection.setblocking(False)
                connection.bind((attacker.address, 0))
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", attacker.port))
                await way(Client(connection, statuses), request)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(go_on()) for _ in range(attacker.connections)]
    await asyncio.wait(tasks, timeout=attacker.seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return statuses


def main() -> None:
    """Attack when a line arrives on standard input."""
    attackers = [Attacker(*each) for each in json.loads(Path(sys.argv[1]).read_bytes())]
    os.nice(NICE)
    with suppress(OSError):  # on some systems each session is a group, and nice has no effect outside of it
        Path("/proc/self/autogroup").write_text(str(NICE), encoding="ascii")
    with multiprocessing.get_context("fork").Pool(len(attackers)) as processes:
        os.write(sys.stdout.fileno(), b"ready\n")
        sys.stdin.readline()
        waiting = processes.map_async(_attack, attackers, chunksize=1)
        got = waiting.get(timeout=max(attacker.seconds for attacker in attackers) + MORE_S)  # one may be killed
    os.write(sys.stdout.fileno(), json.dumps(got).encode())


def _attack(attacker: Attacker) -> Counter[str]:
    return asyncio.run(attack(attacker))


if __name__ == "__main__":
    main()
