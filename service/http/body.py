"""The body of a request: its Content-Type, and its bytes, read within bounds of size and of memory."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.types import Receive

from ..errors import ClientGone, TooLarge, UnsupportedEncoding, UnsupportedMediaType
from ..memory import Reservation


def check_head(headers: Mapping[str, str], media_types: Sequence[str] | None, max_bytes: int) -> str:
    """The Content-Type with its parameters, after everything is checked that the headers say about the body.

    Without media types every Content-Type is taken, and so is a body that has none.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding: the body's media type is not among them, or the body is compressed.
        TooLarge: the Content-Length is beyond the limit.
    """
    content_type = headers.get("content-type", "")
    if media_types is not None and (media_type := media_type_of(content_type)) not in media_types:
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


async def read_all(
    receive: Receive, max_bytes: int, reservation: Reservation, next_part: Callable[[], Awaitable[None]]
) -> bytes:
    """The whole body. A body that is too large is refused as soon as the bytes that have arrived show it.

    `next_part` waits until the next part may be read.

    Raises:
        TooLarge: the body has more than `max_bytes`.
        BodyMemoryFull: there is no memory left for it.
        ClientGone: the client has hung up.
    """
    # Parts that are joined at the end need the memory twice, and hold up the event loop for 13 ms (31 MB). The value of
    # this buffer is the buffer. It grows in place, or else is copied, in at most 10 ms, and leaves a hole in the heap.
    body, is_more = io.BytesIO(), True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body.write(message.get("body", b""))
        is_more = message.get("more_body", False)
        if body.tell() > max_bytes:
            raise TooLarge("The body", size=None, limit=max_bytes, unit="bytes")
        reservation.grow_to(body.tell())
        if is_more:
            await next_part()
    return body.getvalue()
