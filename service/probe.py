"""`python -m service.probe`: exit status 0 if the service on this machine is ready. For containers without curl."""

import os
import sys
from http.client import HTTPConnection


def main() -> int:
    """Ask /readyz at the host and the port that the service's own settings name."""
    host, port = os.environ.get("LATENTD_HOST") or "127.0.0.1", int(os.environ.get("LATENTD_PORT") or "8000")
    # a connection to 0.0.0.0 or :: reaches this machine
    connection = HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})  # a host that is always answered
        return 0 if connection.getresponse().status == 200 else 1
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201  # the orchestrator shows it with the container's health
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
