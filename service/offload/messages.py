"""Messages between the service and its processes: Python objects on a socket, with large buffers beside the pickle.

A body of 30 MB or an array of pixels is not copied into the pickle (its protocol 5, PEP 574): the kernel copies it from
one process to the other, while Python's lock is free.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

import numpy as np

_COUNT = struct.Struct("<Q")
_BUFFER = struct.Struct("<Q?")  # the number of bytes, and whether they may be changed


def send(connection: socket.socket, *message: Any) -> None:
    """Send some objects. Arrays and objects of bytes are not copied.

    Raises:
        OSError: the other side has ended.
    """
    buffers: list[pickle.PickleBuffer] = []
    wrapped = [pickle.PickleBuffer(item) if type(item) is bytes else item for item in message]
    parts = [memoryview(pickle.dumps(wrapped, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    sizes = [_BUFFER.pack(part.nbytes, not part.readonly) for part in parts]
    connection.sendall(_COUNT.pack(len(parts)) + b"".join(sizes))
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket) -> list[Any]:
    """The objects that the other side has sent. An array may be changed if the sender's may.

    Raises:
        EOFError, OSError: the other side has ended.
    """
    (count,) = _COUNT.unpack(_read(connection, _COUNT.size))
    sizes = list(_BUFFER.iter_unpack(_read(connection, count * _BUFFER.size)))
    parts: list[Any] = [
        _read_array(connection, size) if is_writable else _read(connection, size) for size, is_writable in sizes
    ]
    message: list[Any] = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301  # from a process of ours
    return message


def _read(connection: socket.socket, size: int) -> bytes:
    """A number of bytes, without a copy: the kernel writes them into the object itself."""
    content = connection.recv(size, socket.MSG_WAITALL) if size else b""
    if len(content) < size:
        raise EOFError
    return content


def _read_array(connection: socket.socket, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    array = np.empty(size, np.uint8)  # unlike a bytearray, it is not filled with zeros
    if size and connection.recv_into(array.data, 0, socket.MSG_WAITALL) < size:
        raise EOFError
    return array
