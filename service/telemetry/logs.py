"""Log lines: for people on a terminal, JSON elsewhere."""

from __future__ import annotations

import io
import logging
import os
import select
import stat
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog

LineFormat = Literal["auto", "text", "json"]  # auto is text on a terminal, else JSON


class LogStream(io.TextIOBase):
    """A stream as far as somebody reads it: a line that would have to wait is dropped, as is all of a broken one's.

    Else a service whose log nobody reads, a pipe that is full, would stop at its next line.

    Attributes:
        dropped: lines since the last one that was written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._file = _opened_again(stream.fileno())
        self._room = select.poll()
        self._room.register(self._file, select.POLLOUT)
        self.dropped = 0

    def write(self, text: str) -> int:
        """How many characters are gone: all, one way or the other."""
        content = text.encode(errors="backslashreplace")
        for begin in range(0, len(content), select.PIPE_BUF):  # a pipe that is ready takes so much without waiting
            if not self._take(content[begin : begin + select.PIPE_BUF]):
                self.dropped += 1
                return len(text)
        self.dropped = 0
        return len(text)

    def _take(self, content: bytes) -> bool:
        """Whether it is gone, without waiting."""
        if not self._room.poll(0):
            return False
        try:
            os.write(self._file, content)
        except BlockingIOError:
            return False  # another process was quicker
        except OSError:
            pass
        return True

    def mention(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """A line that says what is missing before it; for structlog."""
        if self.dropped:
            line["lines_dropped_before"] = self.dropped
        return line


def _opened_again(file: int) -> int:
    """The same pipe, for writing that never waits, which others who have it do not notice; else the file as it is."""
    if stat.S_ISFIFO(os.fstat(file).st_mode):
        with suppress(OSError):  # it may be another user's
            return os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK)
    return file


def configure(level_name: str, line_format: LineFormat) -> None:
    """Send the service's lines, and warnings of libraries, to standard error; lines below the level are left out."""
    as_text = line_format == "text" or (line_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[level_name.upper()]
    stream = LogStream(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        stream.mention,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    a_line_in_one_write = structlog.WriteLoggerFactory(cast(TextIO, stream))  # since several processes write
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=a_line_in_one_write,
    )
    handler = logging.StreamHandler(stream)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, *renderer], foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
