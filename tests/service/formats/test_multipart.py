"""Forms whose boundaries cost the parser more than their bytes."""

from __future__ import annotations

import logging

import pytest

from service.errors import MalformedBody, ServiceError, TooLarge
from service.formats.multipart import MULTIPART, read_files

TYPE = f"{MULTIPART}; boundary=b"
HEAD = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n'
END = b"\r\n--b--\r\n"


@pytest.mark.parametrize("line", [b"\r\n--bX", b"\r\n--b-X", b"\r\n--b\rX", b"\r\n--b X"])
def test_lines_that_begin_like_a_boundary_count_as_boundaries(line: bytes) -> None:
    """The parser reads each of them byte by byte; the boundary is chosen so that no picture has such lines."""
    with pytest.raises(TooLarge, match="more than the limit of 4 images"):
        read_files(TYPE, HEAD + b"\r\n" + line * 6 + END, 4)


def test_padding_behind_a_boundary_is_bounded() -> None:
    """The parser reads it byte by byte."""
    padded = [HEAD + b"\r\nx\r\n--b" + b" \t" * count + b"\r\n" + HEAD[5:] + b"\r\ny" + END for count in (4, 40)]

    assert read_files(TYPE, padded[0], 4) == [b"x", b"y"]
    with pytest.raises(MalformedBody, match="a boundary has more than 64 spaces behind it"):
        read_files(TYPE, padded[1], 4)


def test_content_type_is_bounded() -> None:
    """Its parameters are read on the event loop, and a head has room for thousands."""
    form = HEAD + b"\r\nx" + END

    assert read_files(TYPE + ";a=b" * 200, form, 4) == [b"x"]
    with pytest.raises(MalformedBody, match="its Content-Type has more than 1000 characters"):
        read_files(TYPE + ";a=b" * 250, form, 4)


def test_as_many_parts_as_allowed_are_read() -> None:
    """Text before and behind the form is ignored."""
    form = b"hello\r\n" + (HEAD + b"\r\nx\r\n") * 4 + b"--b--\r\n" + b"\r\nbye"

    assert read_files(TYPE, form, 4) == [b"x"] * 4
    with pytest.raises(TooLarge):
        read_files(TYPE, form, 3)


@pytest.mark.parametrize("header", [b"X: " + b"a" * 100_000, b"X:" + b" " * 100_000, b"\r\n".join([b"X: y"] * 100)])
def test_headers_of_a_part_are_bounded(header: bytes) -> None:
    """Versions of the parser before 0.0.27 read them without bound (CVE-2026-42561)."""
    with pytest.raises(MalformedBody):
        read_files(TYPE, HEAD + header + b"\r\n\r\nx" + END, 4)


def test_parser_writes_nothing_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The client is told, and could otherwise write as many lines as it likes."""
    with caplog.at_level(logging.DEBUG), pytest.raises(ServiceError):
        read_files(TYPE, b"--b!", 4)

    assert caplog.records == []
