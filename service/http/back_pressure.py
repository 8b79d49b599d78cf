"""Back-pressure: a large answer is sent in pieces, and a piece follows when the client has taken the one before.

Written at once, an answer would be copied into the buffer of its connection, and would be held there after the request
has ended and returned its memory.
"""

from __future__ import annotations

from starlette.types import Message, Send

PIECE_BYTES = 262_144


async def send_in_pieces(send: Send, message: Message) -> None:
    """Send a message. A large body is sent in pieces, and this returns when the client has taken nearly all of it.

    The last message is empty: before uvicorn sends it, it waits until the pieces have left the connection's buffer.
    """
    body = message.get("body", b"")
    if len(body) <= PIECE_BYTES:
        await send(message)
        return
    for start in range(0, len(body), PIECE_BYTES):
        await send({"type": message["type"], "body": body[start : start + PIECE_BYTES], "more_body": True})
    await send({**message, "body": b""})
