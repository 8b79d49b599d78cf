"""Multipart bodies: the files of their parts, in order, kept in memory, since there may be no disk to write on."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from .errors import BadValue, TooLarge, Unparseable

MULTIPART = "multipart/form-data"


def read_files(content_type: str, body: bytes, max_files: int) -> list[bytes]:
    """The content of each part that is a file.

    Raises:
        Unparseable: the parts cannot be told apart, or there is no whole one.
        BadValue: a part is text.
        TooLarge: there are more than `max_files`.
    """
    contents: list[bytes] = []

    def keep(file: File) -> None:
        if len(contents) == max_files:
            raise TooLarge("The body", size=None, limit=max_files, unit="images")
        file.file_object.seek(0)
        contents.append(file.file_object.read())

    def refuse(_: Field) -> None:
        raise BadValue("A part is text and not a picture; send each as a file, as curl -F file=@picture.png does.")

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Unparseable(MULTIPART, "its Content-Type names no boundary")
    try:
        parser = FormParser(MULTIPART, refuse, keep, boundary=boundary, config={"MAX_MEMORY_FILE_SIZE": len(body) + 1})
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Unparseable(MULTIPART, "its parts cannot be told apart") from error
    if not contents:
        raise Unparseable(MULTIPART, "it has no whole part with a file")
    return contents
