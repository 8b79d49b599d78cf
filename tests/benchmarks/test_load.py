"""The output of wrk is read correctly; wrk itself is not needed here."""

import math
import shutil
from pathlib import Path

import pytest

from benchmarks.serving import load
from benchmarks.serving.load import Load, NoClient, NoLoad, Request

PRINTED = """\
Running 2s test @ http://127.0.0.1:1/encode
  1 threads and 16 connections
Requests/sec:   4000.00
summary answers=8010 microseconds=2000000 p50=3500.0 p99=9250.5 socket=1 status=10 timeout=2
"""


def test_summary_becomes_rates_and_milliseconds() -> None:
    """Answers with an error status count as errors, not as answers."""
    assert load.parse(PRINTED) == Load(requests_per_s=4000.0, p50_ms=3.5, p99_ms=9.2505, errors=13)


def test_silence_is_an_infinite_latency() -> None:
    """A failed request never counts as a fast answer."""
    silent = "summary answers=0 microseconds=1000000 p50=0.0 p99=0.0 socket=0 status=0 timeout=16"

    assert load.parse(silent) == Load(requests_per_s=0.0, p50_ms=math.inf, p99_ms=math.inf, errors=16)


def test_output_without_a_summary_is_an_error_that_quotes_it() -> None:
    """wrk prints nothing if it could not connect."""
    with pytest.raises(NoLoad, match="unable to connect"):
        load.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_script_sends_each_body(tmp_path: Path) -> None:
    """The bodies are files beside the script, byte for byte."""
    request = Request("POST", "/encode", {"Content-Type": "image/png"}, (b"\x89PNG\0", b"second"))

    script = load.write_script(request, tmp_path / "scripts")

    assert [file.read_bytes() for file in sorted(script.parent.glob("*.body"))] == [b"\x89PNG\0", b"second"]
    assert 'wrk.format("POST", "/encode", { ["Content-Type"] = "image/png" }, body)' in script.read_text()


def test_missing_client_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells a newcomer what to install."""
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(NoClient, match="apt-get install wrk"):
        load.find()
