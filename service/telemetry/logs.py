"""The log: lines of text on a terminal, JSON elsewhere."""

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
    """A text stream that never blocks: a line that the reader has no room for is dropped.

    An ordinary stream would stop the service at the next line when its log is a full pipe. The standard library's
    QueueHandler is slower, and a process with a full pipe does not end (measured in docs/decisions/0008).

    Attributes:
        dropped: number of lines dropped since the last line that was written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._file = _reopen(stream.fileno())
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLOUT)
        self.dropped = 0

    def write(self, text: str) -> int:
        """Write the text, or drop it if the reader has no room; return the length of the text in both cases."""
        content = text.encode(errors="backslashreplace")
        for begin in range(0, len(content), select.PIPE_BUF):  # a pipe that polls as ready has room for PIPE_BUF bytes
            if not self._write(content[begin : begin + select.PIPE_BUF]):
                self.dropped += 1
                return len(text)
        self.dropped = 0
        return len(text)

    def _write(self, content: bytes) -> bool:
        """Write without waiting; False if there is no room."""
        if not self._poll.poll(0):
            return False
        try:
            os.write(self._file, content)
        except BlockingIOError:
            return False  # another process has filled the pipe since
        except OSError:
            pass  # the reader has gone, or the disk is full: every line is lost, also a line about the loss
        return True

    def mention_dropped(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Add to a line the number of lines that were dropped before it; a processor for structlog."""
        if self.dropped:
            line["lines_dropped_before"] = self.dropped
        return line


def _reopen(file: int) -> int:
    """A pipe, opened once more for writing that never waits; any other file as it is.

    Two workers can both poll the same pipe as ready, and the slower one would wait. O_NONBLOCK on the descriptor that
    we have would also change it for other programs that share it, such as the shell.
    """
    if stat.S_ISFIFO(os.fstat(file).st_mode):
        with suppress(OSError):  # the pipe may belong to another user
            return os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK)
    return file


def configure(level_name: str, line_format: LineFormat) -> None:
    """Send the service's lines, and warnings of libraries, to standard error; lines below the level are left out."""
    as_text = line_format == "text" or (line_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[level_name.upper()]
    stream = LogStream(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        stream.mention_dropped,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    # A WriteLogger writes a line at once, a PrintLogger in two parts, between which another worker could write.
    one_write_per_line = structlog.WriteLoggerFactory(cast(TextIO, stream))
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=one_write_per_line,
    )
    handler = logging.StreamHandler(stream)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, *renderer], foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
