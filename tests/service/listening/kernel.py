"""Whether the kernel, and a sandbox around the service, let it hold new clients at a port."""

import socket

from service.listening.last_clients import hold_new_clients


def can_hold_clients() -> bool:
    """Whether the system has a filter for packets and no sandbox forbids it."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        return hold_new_clients(port)
