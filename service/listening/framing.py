"""The framing of requests: where a head and a body end, and how many bytes and chunks they may have.

The parser does not say where it is, and it reports an endless header, trailer or chunk extension only at its end. So
the bytes are cut in front of the parser: no piece goes beyond the end of a head or of a body. Each count is then exact,
in reads of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..errors import AddressTooLong, BadRequest, HeadTooLarge, UnknownExpectation, UnknownTransferCoding

END = b"\r\n\r\n"  # of a head, and of a body in chunks
NOT_ADDRESS = 64  # bytes of a head that are not its address: the method, the version, a Host header
# For each chunk the parser calls Python, which takes about a microsecond. A chunk of 64 bytes is free, and each further
# 64 bytes of a chunk pay for a small one.
FAIR_CHUNK = 64
SMALL_CHUNKS = 4096
CHUNK_FRAME = 10  # bytes around the content of a chunk: its size in hexadecimal digits, and two line ends


def body_length(version: str, headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The bytes of a request's body, infinite if the body comes in chunks. The parser has checked each length.

    Raises:
        BadRequest: there is not one Host header, the body's end cannot be found, or a request of HTTP/1.0 has chunks.
        UnknownTransferCoding: the body is in chunks, and compressed inside them.
        UnknownExpectation: the client expects something that is not 100-continue.
    """
    hosts, length = 0, 0.0
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            codings += [coding.strip() for coding in value.lower().split(b",")]
        elif name == b"expect" and version != "1.0" and value.strip().lower() != b"100-continue":
            raise UnknownExpectation
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise BadRequest(f"it has {hosts} Host headers, and must have one")
    if not codings:
        return length
    if version == "1.0":
        raise BadRequest("it is HTTP/1.0, which has no Transfer-Encoding; send a Content-Length, or use HTTP/1.1")
    if codings[-1] != b"chunked":
        raise BadRequest("its Transfer-Encoding does not end with chunked; send only that, or a Content-Length")
    if len(codings) > 1:
        raise UnknownTransferCoding
    return math.inf


class Framing:
    """Cuts the bytes of a connection for the parser, and counts the bytes of the request that arrives."""

    def __init__(self, max_bytes: int) -> None:
        """The limit is of the bytes of a head; trailers and chunk extensions may have as many once more."""
        self._max_bytes = max_bytes
        self._last = b""  # the last bytes of the piece before, in which an END may have begun
        self._head_bytes = 0  # with the line ends in front of the head
        self._left = 0.0  # bytes of the body that are still to come
        self._chunks = 0
        self._chunk_frames = 0  # bytes of a body in chunks that are not its content
        self._trailer_bytes = 0
        self._small_chunks = 0
        self.is_in_body = False
        self.body_bytes = 0

    def cut(self, data: bytes, start: int) -> bytes:
        """The piece that begins at `start`. The parser must take it before the next piece is cut."""
        if self.is_in_body and self._left < math.inf:
            return data[start : start + int(self._left)]
        stop = self._stop(data, start)
        if self.is_in_body:
            self._chunk_frames += stop - start  # `count_body` takes the content off again
        else:
            stop = min(stop, start + self._max_bytes + 1 - self._head_bytes)
            self._head_bytes += stop - start
        piece = data[start:stop]
        self._last = b"" if piece.endswith(END) else (self._last + piece[-3:])[-3:]
        return piece

    def _stop(self, data: bytes, start: int) -> int:
        """The place behind the next END, or behind the data."""
        if self._last and (place := (self._last + data[start : start + 3]).find(END)) >= 0:
            return start + place + len(END) - len(self._last)
        place = data.find(END, start)
        return place + len(END) if place >= 0 else len(data)

    def check(self) -> None:
        """Check what has arrived so far, after a piece and at the end of a head or a body.

        Raises:
            HeadTooLarge: the head, or the trailers and the extensions of the chunks, have too many bytes.
        """
        if self._head_bytes > self._max_bytes:
            raise HeadTooLarge(self._max_bytes)
        if self._chunk_frames > self._max_bytes + self.body_bytes + CHUNK_FRAME * self._chunks:
            raise HeadTooLarge(self._max_bytes)

    def check_address(self, size: int) -> None:
        """Check the bytes of an address.

        Raises:
            AddressTooLong: the head has no room for it.
        """
        if size > self._max_bytes - NOT_ADDRESS:
            raise AddressTooLong(self._max_bytes - NOT_ADDRESS)

    def forgive_chunks(self) -> None:
        """Count small chunks anew. Pipelined requests share their number, since one read can bring them all."""
        self._small_chunks = 0

    def begin_body(self, length: float) -> None:
        """Called at the end of a head."""
        self._left = length
        self._chunks = self._chunk_frames = self._trailer_bytes = self.body_bytes = 0
        self.is_in_body = True

    def count_body(self, size: int) -> None:
        """Count a part of the body, which is one chunk, or less.

        Raises:
            BadRequest: the body comes in too many small chunks.
        """
        self.body_bytes += size
        if self._left < math.inf:
            self._left -= size
            return
        self._chunks += 1
        self._chunk_frames -= size
        self._small_chunks = max(0, self._small_chunks + 1 - size // FAIR_CHUNK)
        if self._small_chunks > SMALL_CHUNKS:
            raise BadRequest(
                f"its body has more than {SMALL_CHUNKS:,} chunks of less than {FAIR_CHUNK} bytes; send larger chunks, "
                "or a Content-Length"
            )

    def count_trailer(self, size: int) -> None:
        """Count a header behind a body.

        Raises:
            HeadTooLarge: the trailers have too many bytes.
        """
        self._trailer_bytes += size
        if self._trailer_bytes > self._max_bytes:
            raise HeadTooLarge(self._max_bytes)

    def begin_head(self) -> None:
        """Called at the end of a request, where the next one may begin."""
        self._head_bytes = 0
        self.is_in_body = False
