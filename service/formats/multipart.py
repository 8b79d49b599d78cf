"""Multipart bodies: the files of their parts, in order. They stay in memory, since there may be no disk to write on."""

from __future__ import annotations

import logging

from python_multipart.exceptions import DecodeError, FormParserError, MultipartParseError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from ..errors import BadValue, MalformedBody, TooLarge

MULTIPART = "multipart/form-data"
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # clients are told, and could fill the log
_MAX_PADDING = 64  # spaces behind a boundary, which RFC 2046 allows; the parser takes 0.15 s for a MiB of them
_MAX_CONTENT_TYPE = 1000  # a boundary has 70 at most; the parser takes 9 ms for 16 kB of semicolons


def read_files(content_type: str, body: bytes, max_files: int) -> list[bytes]:
    """The content of each part that is a file or has the Content-Type of a picture.

    Raises:
        MalformedBody: the boundary is missing, the body is cut off or has no part, or a part cannot be read.
        BadValue: a part is text.
        TooLarge: there are more than `max_files` parts.
    """
    contents: list[bytes] = []
    is_complete = False

    def collect(content: bytes) -> None:
        if len(contents) == max_files:
            raise TooLarge("The body", size=None, limit=max_files, unit="images")
        contents.append(content)

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        collect(file.file_object.read())

    def on_field(field: Field) -> None:
        # Some clients send a picture without a file name: its Content-Type tells it from text.
        if not (field.content_type or "").lower().startswith(("image/", "application/octet-stream")):
            raise BadValue("A part is text and not a picture; send each as a file, as curl -F file=@picture.png does.")
        collect(field.value or b"")

    def on_end() -> None:
        nonlocal is_complete
        is_complete = True

    if len(content_type) > _MAX_CONTENT_TYPE:
        raise MalformedBody(MULTIPART, f"its Content-Type has more than {_MAX_CONTENT_TYPE} characters")
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBody(MULTIPART, "its Content-Type names no boundary")
    _check_boundaries(body, boundary, max_files)
    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # more than any part has: no temporary files
    try:
        parser = FormParser(MULTIPART, on_field, on_file, on_end, boundary=boundary, config=config)
        parser.write(_without_preamble(body, boundary))
        parser.finalize()
    except DecodeError as error:
        problem = "the base64 of a part cannot be decoded; send the file's bytes, without Content-Transfer-Encoding"
        raise MalformedBody(MULTIPART, problem) from error
    except MultipartParseError as error:
        raise MalformedBody(MULTIPART, "its parts do not follow the boundary of its Content-Type") from error
    except FormParserError as error:
        raise MalformedBody(MULTIPART, "a part has no Content-Disposition: form-data with a name") from error
    if not is_complete:  # the parser accepts a body that ends anywhere
        raise MalformedBody(MULTIPART, "it is cut off before its closing boundary; send it whole")
    if not contents:
        raise MalformedBody(MULTIPART, "it has no part with a file")
    return contents


def _check_boundaries(body: bytes, boundary: bytes, max_files: int) -> None:
    """Raise an error if boundaries are too many or have much padding.

    A line that only begins like a boundary counts too: the parser reads each byte by byte, which takes 0.06 s a MiB.
    """
    delimiter = b"\r\n--" + boundary
    found, at = 0, body.find(delimiter)
    while at >= 0:
        found, at = found + 1, at + len(delimiter)
        if found > max_files + 1:  # one behind each part, and one behind the text before the first
            raise TooLarge("The body", size=None, limit=max_files, unit="images")
        padding = body[at : at + _MAX_PADDING + 1]
        if len(padding) > _MAX_PADDING and not padding.strip(b" \t"):
            raise MalformedBody(MULTIPART, f"a boundary has more than {_MAX_PADDING} spaces behind it")
        at = body.find(delimiter, at)


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """The body from its first boundary on: text before it is ignored (RFC 2046, section 5.1.1)."""
    delimiter = b"--" + boundary
    if body.startswith(delimiter):
        return body
    _, line_end, rest = body.partition(b"\r\n" + delimiter)
    return delimiter + rest if line_end else body
