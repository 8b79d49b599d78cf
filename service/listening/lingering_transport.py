"""A transport for half-closed connections: neither a refusal nor the end of the client's part loses an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

BEGINNING = b"HTTP/1.1 "  # of every answer


class LingeringTransport:
    """The transport of a connection, with another way to close and a way to learn that the client has left.

    The kernel resets a connection that is closed while bytes of the client are still unread or under way, and a reset
    destroys an answer that the client has not read yet. So the service ends its own part first and goes on reading,
    as nginx does (`lingering_close`); the connection throws the bytes away and closes a second time.
    """

    def __init__(self, transport: asyncio.Transport, may_still_send: Callable[[], bool]) -> None:
        """`may_still_send` tells whether bytes of the client are expected; it is called when the service closes."""
        self._transport = transport
        self._may_still_send = may_still_send
        self._is_closing = False
        # not methods of this class: `write` is called for each answer, at no more cost than before
        self.write: Callable[[bytes], None] = transport.write
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    @property
    def is_lost(self) -> bool:
        """Whether no byte can be read or written any more."""
        return self._transport.is_closing()

    def is_closing(self) -> bool:
        """Whether the service or the client has begun to close the connection."""
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        """Close when all is written; while the client may still send, end only the service's part at the first call."""
        if self.is_closing() or not self._may_still_send():
            self._is_closing = True
            self._transport.close()
            return
        self._is_closing = True
        self._transport.write_eof()
        self._transport.resume_reading()

    def detach(self) -> None:
        """Refer to the connection no more. Else only the garbage collector could free the two."""
        self._may_still_send = bool  # False

    def begin_answer(self) -> None:
        """Write the beginning of every answer, and take it off the next answer.

        After its end, a client has either left or only ended its part, and the bytes from it are the same. If it has
        left, its kernel replies to these bytes with a reset.
        """
        self._transport.write(BEGINNING)
        self.write = self._write_rest

    def is_reset(self) -> bool:
        """Whether the client has reset the connection; the event loop does not notice while it does not read."""
        error: int = self.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return error != 0

    def _write_rest(self, data: bytes) -> None:
        self.write = self._transport.write
        self._transport.write(data.removeprefix(BEGINNING))
