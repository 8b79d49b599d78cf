"""Only the service writes lines into its log: no name, id or file name of a client begins a line."""

import json
import os
import select
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import structlog

from model_store import Store
from service.telemetry import logs

from ...process import Process, unharmed
from ..listening.raw import HOST, say
from ..wire import picture

HOSTILE = 'x\r\n{"event": "forged"}\x1b[2J\u2028'
PROBED = {"/metrics", "/readyz"}  # the addresses that `unharmed` asks
FORGED = b'a\r\n{"event": "forged"}'


def test_each_request_is_one_line_of_json(started: list[Process], store: Store) -> None:
    """Even with line feeds and control characters in its id, its model's name, and the name of its file."""
    process = Process(store.root, "--log-level=debug", "--drain-s=0")
    started.append(process)
    process.wait_for("ready")
    process.collect_log()
    statuses = [
        httpx.get(f"{process.url}/v1/models/{quote(HOSTILE)}/sample").status_code,
        httpx.get(f"{process.url}/v1/sample", params={HOSTILE: HOSTILE}).status_code,
        httpx.post(f"{process.url}/v1/encode", files={"file": (HOSTILE, picture())}).status_code,
    ]
    answer = say(process.url, b"GET /livez HTTP/1.0\r\n" + HOST + b"X-Request-Id: " + FORGED + b"\r\n\r\n")
    harm = unharmed(process)
    process.signal(signal.SIGINT)
    process.end()
    lines = [json.loads(line) for line in process.logged.splitlines()]
    requests = [line for line in lines if line["event"] == "request" and line["route"] not in PROBED]

    assert harm == []
    assert statuses == [404, 422, 200]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert [line["status"] for line in requests] == [404, 422, 200, 400]
    assert ["is not the name of a model" in requests[0]["reason"], "is not known" in requests[1]["reason"]] == [
        True,
        True,
    ]
    assert "reason" not in requests[2]
    assert "Host" in requests[3]["reason"] or "cannot be read" in requests[3]["reason"]
    assert "forged" not in {line["event"] for line in lines}


def test_text_line_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters are escaped, so that the terminal does not obey them."""
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stderr", file)
        logs.configure("info", "text")
        structlog.get_logger().info("request", model=HOSTILE)
    written = (tmp_path / "log").read_text(encoding="utf-8")

    assert len(written.splitlines()) == 1
    assert "\x1b" not in written


def test_line_on_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are only for terminals; in a file they would be noise."""
    reader, writer = os.openpty()
    with os.fdopen(reader, "rb", buffering=0) as shown, os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        logs.configure("info", "auto")
        structlog.get_logger().info("request")
        line = shown.read(4096)

    assert b"\x1b[" in line
    assert b"request" in line


@pytest.mark.timeout(20)
def test_line_that_finds_a_pipe_full_is_dropped_though_there_was_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may fill the pipe after it was polled; other programs still wait as before."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as pipe:
        stream = logs.LogStream(pipe)
        monkeypatch.setattr(stream, "_poll", AlwaysReady())
        for _ in range(100):
            stream.write("x" * select.PIPE_BUF)

        assert stream.dropped > 0
        assert os.get_blocking(writer)


class AlwaysReady:
    """A poll that says that the pipe has room, as it does just before another process fills it."""

    def poll(self, _: float) -> bool:
        """Say that there is room."""
        return True
