"""`python -m service.probe --or-end` in a process namespace of its own, so that it can end no other service."""

import subprocess
import sys
from collections.abc import Callable

import pytest

STUCK = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]) if self.path == "/livez" else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
"""

SCRIPT = """
mkdir "$1/service" && printf '%s' "$2" > "$1/service/__main__.py" && touch "$1/service/__init__.py"
(cd "$1" && exec "$3" -m service "$4" "$5") & stuck=$!
for _ in $(seq 100); do
    "$3" -c "import socket; socket.create_connection(('127.0.0.1', $5))" 2>/dev/null && break
    sleep 0.1
done
LATENTD_PORT=$5 "$3" -c "
from service import probe
probe.PAUSE_S = probe.GRACE_S = 0.1
raise SystemExit(probe.main(['--or-end']))"
echo "probe $?"
kill -0 $stuck 2>/dev/null && echo alive || echo ended
"""

Probe = Callable[[int], list[str]]


@pytest.fixture
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """The probe of a service that is not ready, and whose /livez has a status; skipped where namespaces are missing."""
    unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--net", "sh", "-c"]
    try:
        tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip(f"namespaces cannot be made here: {tried.stderr.strip()}")

    def run(status: int) -> list[str]:
        loopback = (
            "import fcntl,socket,struct;fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
        )
        script = f"'{sys.executable}' -c \"{loopback}\"\n{SCRIPT}"
        arguments = [str(tmp_path_factory.mktemp("stuck")), STUCK, sys.executable, str(status), "8000"]
        told = subprocess.run([*unshare, script, "sh", *arguments], capture_output=True, text=True, check=True)
        return told.stdout.splitlines()

    return run


def test_service_that_must_be_restarted_is_ended(probe: Probe) -> None:
    """Its /livez says so; the container then ends, and its restart policy starts it again."""
    assert probe(500) == ["probe 1", "ended"]


def test_service_that_is_not_ready_is_not_ended(probe: Probe) -> None:
    """The service may have no model yet, or drains."""
    assert probe(200) == ["probe 1", "alive"]
