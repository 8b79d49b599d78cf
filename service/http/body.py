"""The body of a request: its Content-Type, and its bytes, read within bounds of size and of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from starlette.types import Receive

from ..errors import BodyMemoryFull, ClientGone, TooLarge, UnsupportedEncoding, UnsupportedMediaType


class BodyMemory:
    """A budget of bytes for the bodies of all requests. A request that would exceed the budget is refused."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    def reserve(self) -> Reservation:
        """An empty reservation. As a context manager it returns its bytes on exit."""
        return Reservation(self)


class Reservation:
    """The bytes of a budget that one request holds."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def take(self, size: int) -> None:
        """Add a number of bytes to the reservation.

        Raises:
            BodyMemoryFull: the budget has fewer bytes left.
        """
        if self._memory.taken + size > self._memory.size:
            raise BodyMemoryFull(self._memory.size)
        self._memory.taken += size
        self._taken += size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._memory.taken -= self._taken


def check_head(headers: Mapping[str, str], media_types: Sequence[str], max_bytes: int) -> str:
    """The Content-Type with its parameters, after everything is checked that the headers say about the body.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding: the body's media type is not among them, or the body is compressed.
        TooLarge: the Content-Length is beyond the limit.
    """
    content_type = headers.get("content-type", "")
    if (media_type := media_type_of(content_type)) not in media_types:
        raise UnsupportedMediaType(media_type, media_types)
    if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedEncoding(encoding)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise TooLarge("The body", size=int(declared), limit=max_bytes, unit="bytes")
    return content_type


def media_type_of(content_type: str) -> str:
    """The media type in small letters, without parameters such as a boundary."""
    return content_type.partition(";")[0].strip().lower()


async def read_all(receive: Receive, max_bytes: int, reservation: Reservation) -> bytes:
    """The whole body. A body that is too large is refused as soon as the bytes that have arrived show it.

    Raises:
        TooLarge: the body has more than `max_bytes`.
        BodyMemoryFull: there is no memory left for it.
        ClientGone: the client has hung up.
    """
    parts: list[bytes] = []
    size, is_more = 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size, is_more = size + len(parts[-1]), message.get("more_body", False)
        if size > max_bytes:
            raise TooLarge("The body", size=None, limit=max_bytes, unit="bytes")
        reservation.take(len(parts[-1]))
    return b"".join(parts)
