"""Raw bytes to a socket and back, for requests and pauses that no well-behaved client would make."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

HOST = b"Host: localhost\r\n"

# For coroutine tests: uvicorn takes uvloop where it is installed, and both loops treat half-closed connections alike.
ON_BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)


@contextmanager
def connected(url: str, timeout_s: float = 20.0) -> Iterator[socket.socket]:
    """A connection to a service."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=timeout_s) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """All bytes until the other side closes or resets the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status_of_next(connection: socket.socket) -> int:
    """The status of one answer, which is read completely."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def say(url: str, *parts: bytes) -> bytes:
    """Send some bytes; return all that is answered until the connection is closed."""
    with connected(url) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # the service has closed already; its answer can still be read
        return everything(connection)


def drip(connection: socket.socket, content: bytes, seconds: float) -> None:
    """Send the content byte by byte, evenly over some seconds."""
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(seconds / len(content))


def reset(connection: socket.socket) -> None:
    """Reset the connection instead of closing it in order."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def statuses(answers: bytes) -> list[int]:
    """The statuses of all answers, in their order."""
    lines = [line for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split()[1]) for line in lines]
