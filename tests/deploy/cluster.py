"""A Ray cluster of two nodes on this machine, and the service on it."""

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
    """The address of the proxy of two nodes; none of their processes is left afterwards, nor any file."""
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
    """What Ray's processes find in their environment, and Ray in this one, which has read it already."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)  # pytest's own are too long for the names of Ray's sockets
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING", "0")  # one proxy is to use both nodes
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # else Ray replaces the loopback's address
        patch.setenv("RAY_AUTH_MODE", "token")  # a replica has a port for others of its kind, on all addresses
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        reset_auth_token_state()
        yield
    reset_auth_token_state()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        port: int = bound.getsockname()[1]
        return port


class Service:
    """The service on the cluster, with some settings that each deployment may change."""

    def __init__(self, url: str, **settings: str) -> None:
        self.url = url
        self._settings = settings

    def deploy(self, **settings: str) -> None:
        """Deploy it, or anew with other settings, and return when all replicas are new; as `serve run` does it."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self._settings, **settings}.items():
                patch.setenv(f"LATENTD_{name.upper()}", value)
            serve.run(ray_app.app(SCALE), name="latentd")

    def wait_until_replaced(self, replica: int, limit_s: float = 40) -> float:
        """Until there are two replicas, but not this one; gives the seconds that it took.

        Raises:
            AssertionError: it takes too long.
        """
        began = time.monotonic()
        while len(found := self.replicas) < 2 or replica in found:
            assert time.monotonic() < began + limit_s, f"{replica} is not replaced, there are {found}"
            time.sleep(0.05)
        return time.monotonic() - began

    @property
    def replicas(self) -> dict[int, str]:
        """The node of each replica that answers, by its process."""
        details = _get_global_client().get_serve_details()  # Ray tells the processes nowhere else without its dashboard
        found = details["applications"]["latentd"]["deployments"]["latentd"]["replicas"]
        return {replica["pid"]: replica["node_id"] for replica in found if replica["state"] == "RUNNING"}

    def answered(self) -> dict[int, int]:
        """How many requests each of them has answered, as its own log says."""
        logs = Path(os.environ["RAY_TMPDIR"]) / "ray" / "session_latest" / "logs"
        texts = {
            replica: "".join(map(Path.read_text, logs.glob(f"worker-*-{replica}.err"))) for replica in self.replicas
        }
        return {replica: text.count('"event": "request"') for replica, text in texts.items()}

    def kill(self) -> int:
        """Kill one of the replicas, and give the process that it was."""
        victim = min(self.replicas)
        os.kill(victim, signal.SIGKILL)
        return victim


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process that stands still, and is killed afterwards; another that has got its number since is left alone."""
    handle = os.pidfd_open(process)
    signal.pidfd_send_signal(handle, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
