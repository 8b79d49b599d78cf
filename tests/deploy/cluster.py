"""A Ray cluster of two nodes on this machine, and the service on that cluster."""

import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ray
from ray import serve
from ray._private import ray_constants
from ray._private.authentication_test_utils import reset_auth_token_state
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client

from deploy import ray_app

HOST = "127.0.0.1"
NODE = {"num_cpus": 2, "node_ip_address": HOST}
SCALE = ray_app.Scale(replicas=2, cpus=1)


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of the cluster's proxy; afterwards no process or file of the cluster is left."""
    with _environment():
        nodes = Cluster()
        try:
            nodes.add_node(**NODE, include_dashboard=False)
            nodes.add_node(**NODE)
            ray.init(nodes.address, namespace="serve", log_to_driver=False, configure_logging=False)
            port = _free_port()
            serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": port})
            yield f"http://{HOST}:{port}"
        finally:
            ray.shutdown()
            nodes.shutdown()


@contextmanager
def _environment() -> Iterator[None]:
    """Set variables for Ray's processes, and for Ray in this process, which has read its variables already."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)  # pytest's folders are too long for the names of Ray's sockets
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING", "0")  # so that the proxy uses both nodes
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # or Ray replaces the loopback address
        patch.setenv("RAY_AUTH_MODE", "token")  # replicas listen for each other on all addresses
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        reset_auth_token_state()
        yield
    reset_auth_token_state()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


class Service:
    """The service on the cluster; each deployment may change its settings."""

    def __init__(self, url: str, **settings: str) -> None:
        self.url = url
        self._settings = settings

    def deploy(self, **settings: str) -> None:
        """Deploy the service as `serve run` does, and return when all replicas have these settings."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self._settings, **settings}.items():
                patch.setenv(f"LATENTD_{name.upper()}", value)
            serve.run(ray_app.app(SCALE), name="latentd")

    def wait_until_replaced(self, replica: int, limit_s: float = 40) -> float:
        """Wait until there are two replicas without this one; return the seconds that it took.

        Raises:
            AssertionError: the replica is not replaced within `limit_s`.
        """
        began = time.monotonic()
        while len(found := self.replicas) < 2 or replica in found:
            assert time.monotonic() < began + limit_s, f"{replica} is not replaced, there are {found}"
            time.sleep(0.05)
        return time.monotonic() - began

    @property
    def replicas(self) -> dict[int, str]:
        """The node of each running replica, by process id."""
        details = _get_global_client().get_serve_details()  # Ray tells the processes nowhere else without its dashboard
        found = details["applications"]["latentd"]["deployments"]["latentd"]["replicas"]
        return {replica["pid"]: replica["node_id"] for replica in found if replica["state"] == "RUNNING"}

    def answered(self) -> dict[int, int]:
        """The number of requests that each replica has answered, according to its log."""
        logs = Path(os.environ["RAY_TMPDIR"]) / "ray" / "session_latest" / "logs"
        texts = {
            replica: "".join(map(Path.read_text, logs.glob(f"worker-*-{replica}.err"))) for replica in self.replicas
        }
        return {replica: text.count('"event": "request"') for replica, text in texts.items()}

    def kill(self) -> int:
        """Kill one replica; return its process id."""
        victim = min(self.replicas)
        os.kill(victim, signal.SIGKILL)
        return victim


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Stop a process, and kill it at the end; a handle keeps another process that gets the same id safe."""
    handle = os.pidfd_open(process)
    signal.pidfd_send_signal(handle, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
