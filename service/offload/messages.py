"""Messages between the service and its processes: Python objects on a socket, with large buffers beside the pickle.

A body of 30 MB or an array of pixels is not copied into the pickle (its protocol 5, PEP 574): the kernel copies it from
one process to the other, while Python's lock is free.

A pickle can name any function of Python to be called. The service reads only arrays, texts, numbers and errors from its
processes: a file that takes over a library there must not take over the service.
"""

from __future__ import annotations

import builtins
import io
import pickle
import socket
import struct
from typing import Any

import numpy as np

ERRORS = "service.errors"
_ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
}

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
    """The objects that the service has sent to this process. An array may be changed if the sender's may.

    Raises:
        EOFError, OSError: the other side has ended.
    """
    pickled, *buffers = _receive_parts(connection)
    message: list[Any] = pickle.loads(pickled, buffers=buffers)  # noqa: S301  # from the service
    return message


def receive_result(connection: socket.socket) -> list[Any]:
    """The objects that a process has sent to the service, as far as they are results.

    Raises:
        EOFError, OSError: the other side has ended, or its message is not a result.
    """
    pickled, *buffers = _receive_parts(connection)
    try:
        message: list[Any] = _ResultReader(io.BytesIO(pickled), buffers=buffers).load()
    except Exception as error:  # pickle raises errors of many types for other bytes
        raise ConnectionError("the message of a process is not a result") from error
    return message


class _ResultReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A class or function that a pickle names: an array's, or an error of Python or of ours."""
        if (module, name) in _ARRAYS or is_known_error(module, name):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a process has sent {module}.{name}, which is not part of a result")


def is_known_error(module: str, name: str) -> bool:
    """Whether the name is an error of Python or of `service.errors`."""
    if module == ERRORS:
        return "." not in name and name[:1].isupper()
    found = getattr(builtins, name, None) if module == "builtins" else None
    return isinstance(found, type) and issubclass(found, Exception)


def _receive_parts(connection: socket.socket) -> list[Any]:
    (count,) = _COUNT.unpack(_read(connection, _COUNT.size))
    sizes = list(_BUFFER.iter_unpack(_read(connection, count * _BUFFER.size)))
    return [_read_array(connection, size) if is_writable else _read(connection, size) for size, is_writable in sizes]


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
