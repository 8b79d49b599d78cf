"""Our service and its peers: how each is started, with which setting, and at which addresses it is asked."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from service.settings import Settings

from .. import environments
from . import checks, models, pictures
from .cases import BATCHES, Operation
from .load import Request
from .pictures import Material
from .place import Place

WORKERS = 2  # processes that compute, for every server
OTHER_PORTS = 4  # for management, metrics and gRPC, where a peer insists on them
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)  # of torch in each of them
PNG, NPY, JSON = "image/png", "application/x-npy", "application/json"
Bytes = tuple[bytes, ...]
_TRITON_HEAD_BYTES = 160


@dataclass(frozen=True)
class Route:
    """The address of an operation at a server; `wrap` turns our body into the server's."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    wrap: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Server:
    """A server: its name, its setting in words for the tables, and its routes.

    `batches` says whether requests share a forward pass. One with `options` is our service with these settings.
    """

    name: str
    setting: str
    batches: bool
    routes: Mapping[Operation, Route]
    networks: tuple[str, ...] = (models.MNIST, models.PHOTO)
    tolerance: float = checks.TOLERANCE
    options: Mapping[str, object] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the server is the service of this project."""
        return self.options is not None

    def version(self) -> str:
        """The version that is measured."""
        return "this commit" if self.is_ours else environments.version(self.name)

    def described(self) -> str:
        """The setting in words; for our service, the settings that this version has and that are not defaults."""
        told = [f"{name}={value}" for name, value in our_settings(self.options or {}).items()]
        return "; ".join(filter(None, (", ".join(told), self.setting)))

    def request(self, operation: Operation, material: Material) -> Request:
        """The requests of an operation: the same bytes for all servers, in the server's own wrapping."""
        route = self.routes[operation]
        contents = tuple(map(route.wrap, bodies(operation, material)))
        return Request(route.method, route.path, route.headers, contents if route.method == "POST" else ())

    def command(self, place: Place) -> list[str]:
        """The command that starts it: our service as a user starts it, a peer by its file `serve`.

        Raises:
            CannotInstall: its environment cannot be made.
        """
        if self.is_ours:
            return [str(environments.python(environments.OURS)), "-m", "service", "--store", str(place.store)]
        return [str(environments.python(self.name)), "-m", f"benchmarks.serving.peers.{self.name}.serve"]

    def environment(self, place: Place) -> dict[str, str]:
        """Its environment: for our service the settings, for a peer its place and the path of our packages."""
        if self.options is not None:
            return our_settings({"port": place.port, **self.options})
        return {"PYTHONPATH": str(environments.ROOT), **place.environment()}


def our_settings(wanted: Mapping[str, object], known: Collection[str] = Settings.model_fields) -> dict[str, str]:
    """Settings as a user would make them. A setting that this version of the service does not have is left out."""
    return {f"LATENTD_{name.upper()}": str(value) for name, value in wanted.items() if name in known}


def bodies(operation: Operation, material: Material) -> Bytes:
    """The bodies of an operation; for a sample an empty JSON object, where a server wants a body."""
    if operation is Operation.ENCODE:
        return material.pngs
    if operation is Operation.SAMPLE:
        return (b"{}",)
    if operation is Operation.BATCH_DECODE:
        return (pictures.npy(material.latents),)
    return (pictures.npy(pictures.channels_last(material.pixels)),)


def free_ports(count: int) -> list[int]:
    """Free ports of 127.0.0.1."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listening.getsockname()[1] for listening in sockets]


def somewhere(store: Path, model: str, scratch: Path) -> Place:
    """A new place for a server."""
    port, *others = free_ports(1 + OTHER_PORTS)
    return Place(store, model, port, tuple(others), scratch, WORKERS, THREADS)


def _in_base64(png: bytes) -> bytes:
    return png if png == b"{}" else json.dumps({"image": base64.b64encode(png).decode()}).encode()


def _for_triton(png: bytes) -> bytes:
    """The JSON header of Triton's protocol, then the picture with its length before it."""
    size = len(png) + 4
    head = {"inputs": [{"name": "png", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}]}
    return _triton_head(head) + len(png).to_bytes(4, "little") + png


def _triton_head(head: Mapping[str, object]) -> bytes:
    """A header of constant length: the HTTP headers state the length and are the same for all pictures."""
    return json.dumps(head).encode().ljust(_TRITON_HEAD_BYTES)


def _sample_of_triton(_: bytes) -> bytes:
    count = {"name": "count", "shape": [1, 1], "datatype": "INT32", "data": [1]}
    png = {"name": "png", "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [count], "outputs": [png]}).encode()


OUR_ROUTES = {
    Operation.ENCODE: Route("POST", "/v1/encode", {"Content-Type": PNG}),
    Operation.SAMPLE: Route("GET", "/v1/sample"),
}

LATENTD = Server(
    environments.OURS,
    "else defaults",
    True,
    OUR_ROUTES
    | {
        operation: Route("POST", f"/v1/{operation.removeprefix('batch-')}?format=npy", {"Content-Type": NPY})
        for operation in BATCHES
    },
    options={"workers": WORKERS, "log_level": "warning"},
)

SERVERS = (
    LATENTD,
    Server(
        "latentd-bfloat16",
        "answers change in the third digit",
        True,
        OUR_ROUTES,
        networks=(models.PHOTO,),
        tolerance=0.1,
        options={"workers": WORKERS, "log_level": "warning", "dtype": "bfloat16"},
    ),
    Server(
        "naive",
        f"FastAPI with uvicorn, {WORKERS} workers, uvloop, httptools; no batching",
        False,
        {
            Operation.ENCODE: Route("POST", "/encode", {"Content-Type": PNG}),
            Operation.SAMPLE: Route("GET", "/sample"),
        }
        | {operation: Route("POST", f"/{operation}", {"Content-Type": NPY}) for operation in BATCHES},
    ),
    Server(
        "litserve",
        f"{WORKERS} workers, else defaults (no batching)",
        False,
        {
            operation: Route("POST", "/predict", {"Content-Type": JSON}, _in_base64)
            for operation in (Operation.ENCODE, Operation.SAMPLE)
        },
    ),
    Server(
        "mosec",
        f"{WORKERS} workers, batches of 16, wait 1 ms",
        True,
        {operation: Route("POST", "/inference") for operation in (Operation.ENCODE, Operation.SAMPLE)},
    ),
    Server(
        "torchserve",
        f"{WORKERS} workers, batches of 16, delay 2 ms",
        True,
        {
            Operation.ENCODE: Route("POST", "/predictions/vae", {"Content-Type": PNG}),
            Operation.SAMPLE: Route("GET", "/predictions/vae"),
        },
    ),
    Server(
        "triton",
        f"{WORKERS} instances of each model, batches of 16, delay 1 ms",
        True,
        {
            Operation.ENCODE: Route(
                "POST",
                "/v2/models/encode/infer",
                {
                    "Content-Type": "application/octet-stream",
                    "Inference-Header-Content-Length": str(_TRITON_HEAD_BYTES),
                },
                _for_triton,
            ),
            Operation.SAMPLE: Route("POST", "/v2/models/sample/infer", {"Content-Type": JSON}, _sample_of_triton),
        },
    ),
)
