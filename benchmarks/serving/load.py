"""The client, the same for every server: wrk with one thread, keep-alive and a closed loop.

A script tells wrk what to send and counts the answers. Latencies are measured at its connections.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 30
_SUMMARY = re.compile(
    r"^summary answers=(\d+) microseconds=(\d+) p50=([\d.]+) p99=([\d.]+) socket=(\d+) status=(\d+) timeout=(\d+)$",
    re.MULTILINE,
)
_SCRIPT = """\
local bodies, turn, requests = {{ {bodies} }}, 0, {{}}
local function request_with(body)
  requests[#requests + 1] = wrk.format("{method}", "{path}", {{ {headers} }}, body)
end
init = function()
  for _, name in ipairs(bodies) do
    local file = assert(io.open(name, "rb"))
    request_with(file:read("*a"))
    file:close()
  end
  if #bodies == 0 then request_with(nil) end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
done = function(summary, latency)
  io.write(string.format(
    "summary answers=%d microseconds=%d p50=%.1f p99=%.1f socket=%d status=%d timeout=%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write,
    summary.errors.status, summary.errors.timeout
  ))
end
"""


class NoClient(Exception):
    """The command wrk is not installed."""


class NoLoad(Exception):
    """wrk failed, for example because the server has ended."""


@dataclass(frozen=True)
class Request:
    """The requests that are sent, with each of the bodies in turn, or with an empty one."""

    method: str
    path: str
    headers: Mapping[str, str]
    bodies: tuple[bytes, ...]


@dataclass(frozen=True)
class Load:
    """The client's measurements: right answers/s, milliseconds, and failed requests (no connection, status, timeout).

    Where nothing was answered in time, the milliseconds are infinite.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def find() -> str:
    """The path of wrk.

    Raises:
        NoClient: it is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise NoClient(
            "The command wrk is not installed; install it (Debian: apt-get install wrk; macOS: brew install wrk)."
        )
    return path


def described() -> str:
    """The client's version and setting, for the table."""
    done = subprocess.run([find(), "-v"], capture_output=True, text=True, check=False)
    return f"wrk {done.stdout.split()[1]}, one thread, keep-alive, closed loop, on the same machine"


def write_script(request: Request, folder: Path) -> Path:
    """Write the script and the bodies that it reads into an empty folder."""
    folder.mkdir(parents=True)
    files = [folder / f"{number}.body" for number in range(len(request.bodies))]
    for file, body in zip(files, request.bodies, strict=True):
        file.write_bytes(body)
    script = folder / "request.lua"
    script.write_text(
        _SCRIPT.format(
            method=request.method,
            path=request.path,
            headers=", ".join(f'["{name}"] = "{value}"' for name, value in request.headers.items()),
            bodies=", ".join(f'"{file}"' for file in files),
        )
    )
    return script


def command(script: Path, url: str, connections: int, seconds: float) -> list[str]:
    """The command line of wrk, which takes whole seconds."""
    loop = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"]
    return [find(), *loop, "-s", str(script), url]


def run(script: Path, url: str, connections: int, seconds: float) -> Load:
    """Send requests over `connections` connections for `seconds` seconds.

    Raises:
        NoLoad: wrk failed.
    """
    asked = command(script, url, connections, seconds)
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=seconds + 3 * TIMEOUT_S)
    if done.returncode != 0:
        raise NoLoad(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return parse(done.stdout)


def parse(text: str) -> Load:
    """The numbers in the script's last line. wrk counts an error status as an answer; here it counts as a failure.

    Raises:
        NoLoad: the script has not written such a line.
    """
    found = _SUMMARY.search(text)
    if found is None:
        raise NoLoad(f"wrk's script printed no summary, but: {text.strip()[-200:]}")
    answers, microseconds, p50, p99, socket, status, timeout = map(float, found.groups())
    right, errors = answers - status, int(socket + status + timeout)
    if not answers:
        return Load(0.0, math.inf, math.inf, errors)
    return Load(right / microseconds * 1e6, p50 / 1e3, p99 / 1e3, errors)
