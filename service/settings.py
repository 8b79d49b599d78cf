"""Settings: everything that an operator can set.

`__main__` makes them once and passes them down; no other module reads the environment. No `.env` file is read.

Libraries read variables of their own. Variables that choose hardware, kernels and threads are left to the operator:
OMP_NUM_THREADS, MKL_*, ATEN_CPU_CAPABILITY, CUDA_VISIBLE_DEVICES, PYTORCH_*. GOMP_SPINCOUNT has a default of ours
(`model_store/waiting_threads.py`). Variables that would break a promise of the service are overruled where the library
is used: PROMETHEUS_MULTIPROC_DIR (metrics.py), WEB_CONCURRENCY and FORWARDED_ALLOW_IPS (server.py),
FASTAPI_OTEL_AUTO_CONFIGURE (app.py). UVICORN_* is read by uvicorn's own command alone.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_store import DEFAULT_ROOT, parse_reference, store_folder
from model_store.vae.device import choose_device

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_OWN_ADDRESSES = {"docs", "healthz", "livez", "metrics", "openapi.json", "readyz", "static-offline-docs", "v1"}


def check_reference(text: str) -> str:
    """Return the text, if it is a name of a model, name@version or name@alias.

    Raises:
        InvalidName: it has none of these forms.
    """
    parse_reference(text)
    return text


def check_device(name: str) -> str:
    """Return the name, if a device can have it; `choose_device` tells whether this machine has the device.

    Raises:
        ValueError: no device can have it.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", name):
        raise ValueError("the devices are auto, cpu, cuda and cuda:N, as cuda:1")
    return name


class Settings(BaseSettings):
    """Serve the models of a store over HTTP. Each setting is a flag, or LATENTD_… in the environment; the flag wins."""

    model_config = SettingsConfigDict(
        env_prefix="LATENTD_",
        env_ignore_empty=True,  # an empty variable counts as not set: as a path it would be the current folder
        frozen=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 listens on every network of this machine")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free port and logs it")
    root_path: str | None = Field(
        None,
        description="prefix of all addresses behind a proxy, such as /latentd; the proxy may cut it off or leave it",
    )
    forwarded_by: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma list of the addresses or networks of proxies, such as 10.0.0.0/8, whose headers "
        "X-Forwarded-Proto, -Host, -Prefix and -For are believed, or * for every client; too few: the page shows "
        "addresses that do not lead here, and all clients of a proxy share one place in the queue; too many: clients "
        "can forge their own address",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that answer on the port and share the models in memory; with several, each computes on "
        "one core; one per core is best for many small requests; too low: cores are idle; too high: workers compete "
        "for cores and take more memory",
    )
    store: Annotated[Path, BeforeValidator(store_folder)] = Field(DEFAULT_ROOT, description="folder of the models")
    # Path.expanduser raises where the user has no home folder; os.path.expanduser leaves the path as it is
    cache: Annotated[Path, BeforeValidator(os.path.expanduser)] = Field(
        Path("~/.cache/latentd"),
        description="folder for the results of warm-ups, which make the next start quick, and for notes of versions "
        "that ended the process while they were loaded; not used if it cannot be written",
    )
    default_model: Annotated[str, AfterValidator(check_reference)] | None = Field(
        None,
        description="name, name@version or name@alias of the model for addresses without a model, such as /v1/encode; "
        "without it the choice of the store (python -m model_store default NAME), else the only model in the store",
    )
    versions_per_model: int = Field(
        3,
        ge=1,
        le=1000,
        description="number of newest versions of each model that are served, beside the versions that aliases name; "
        "too low: requests that pin an older version get 404; too high: each version takes memory",
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        "auto", description="auto (CUDA if there is a GPU), cpu, cuda or cuda:N"
    )
    dtype: Dtype = Field(
        "auto",
        description="precision of the networks; auto is the precision of the stored weights; half precision is faster "
        "on hardware that supports it, and changes answers in the third digit",
    )
    runtime: Literal["auto", "torch", "onnxruntime"] = Field(
        "auto",
        description="library that computes the networks; auto is ONNX Runtime where it is installed, on a CPU and in "
        "float32, and torch elsewhere; their answers agree to about six digits",
    )
    max_batch_images: int = Field(
        64,
        ge=1,
        le=4096,
        description="images that are computed at once; too low: throughput is lost; too high: more memory, and small "
        "requests wait behind large batches",
    )
    queue_images: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="images that may wait for a model; each client may have as many there as places are free, so one "
        "client alone has half of them; too low: 429 in a burst; too high: requests wait until their deadline instead "
        "of being refused at once",
    )
    max_score_draws: int = Field(
        16_384,
        ge=1,
        le=2**30,
        description="images times importance samples of one score request; too low: 413 for tight bounds; too high: "
        "one request computes for a long time, up to its deadline",
    )
    max_images_per_request: int = Field(
        256,
        ge=1,
        le=65536,
        description="images of one request, in or out; too low: 413 for bulk clients; too high: one request holds the "
        "device and memory for a long time",
    )
    max_pixels: int = Field(
        4_194_304,
        ge=1,
        le=2**28,
        description="pixels of one picture, checked before it is decoded; too low: 413 for photos; too high: a small "
        "file can unpack to gigabytes",
    )
    max_request_pixels: int = Field(
        16_777_216,
        ge=1,
        le=2**30,
        description="pixels of all pictures of one request together, in and out; too low: 413 for bulk clients; too "
        "high: each request takes much memory",
    )
    max_body_bytes: int = Field(
        33_554_432,
        ge=1024,
        le=2**31,
        description="size of a request's body; too low: 413 for bulk clients; too high: each request takes much memory",
    )
    max_bodies_bytes: int = Field(
        67_108_864,
        ge=1024,
        le=2**40,
        description="size of all bodies over 64 KiB together that a process reads at the same time; too low: 429 for "
        "bulk clients; too high: the process may run out of memory",
    )
    max_answer_bytes: int = Field(
        201_326_592,
        ge=1024,
        le=2**40,
        description="memory of one request beside its body: its images and latents as numbers, and its answer; too "
        "low: 413 for bulk clients; too high: each request takes much memory",
    )
    max_answers_bytes: int = Field(
        469_762_048,
        ge=1024,
        le=2**40,
        description="memory of all requests together that a process computes and answers at the same time, each until "
        "its client has taken the answer; too low: 429 for bulk clients; too high: the process may run out of memory",
    )
    max_compute_bytes: int | None = Field(
        None,
        ge=2**20,
        le=2**40,
        description="memory that the computation of one image may take beside the weights; larger images are computed "
        "in tiles; by default an eighth of the memory that is free at the start, between 256 MiB and 2 GiB; too low: "
        "many small tiles, whose overlap is computed again and again; too high: the process may run out of memory",
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time in which an answer must be computed, including the time in the queue; too low: 504 under "
        "load; too high: clients wait for answers that they no longer need",
    )
    max_head_bytes: int = Field(
        16_384,
        ge=1024,
        le=2**20,
        description="size of a request's address and headers; too low: 431 behind proxies that add many headers; too "
        "high: each connection takes more memory",
    )
    head_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="time in which a request's address and headers must arrive, from the first byte or from the "
        "connection; too low: 408 on slow networks; too high: silent clients hold connections",
    )
    body_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time in which a request's body must arrive, and in which a client must read its answer; besides, "
        "a client must send or read 5 KiB in each 5 s; too low: 408 and broken answers on slow networks; too high: "
        "slow clients hold connections and memory",
    )
    idle_timeout_s: int = Field(
        75,
        ge=1,
        le=86400,
        description="time between an answer and the next request on a connection; too low, or lower than the load "
        "balancer's: the balancer meets closed connections; too high: silent clients hold connections",
    )
    hang_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="time after which a computation that does not end counts as hung, and its clients get 503; too "
        "low: batches of large models are abandoned; too high: clients wait long for that 503",
    )
    drain_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="time after SIGTERM in which /readyz answers 503 and new requests are still accepted; too low: "
        "balancers still send requests to a closed port; too high: the orchestrator kills the process first",
    )
    reload_s: float = Field(
        2.0,
        ge=0,
        le=86400,
        description="time between two checks of the store for new versions; 0: no checks; too low: needless disk "
        "reads; too high: new versions are served late",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="comma list of keys; without keys /v1 is open to every client; with keys each request needs the "
        "header Authorization: Bearer KEY, or the key in its address: https://user:KEY@host",
    )
    api_keys_file: Path | None = Field(
        None,
        description="file with more keys, one in each line; it is read again when it changes, so that keys can be "
        "exchanged while the service runs",
    )
    open_without_key: bool = Field(
        False,
        description="whether /metrics, and the names of the models on / and /healthz, are open to clients without a "
        "key, where the service has keys",
    )
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma list of hosts by which clients call the service, such as example.org or *.example.org, or * "
        "for any; localhost and loopback addresses always count; without the list, only those count where the service "
        "has no key and listens on a loopback address, and elsewhere any host; too few: 421; too many: a page of "
        "another site can read answers by DNS rebinding",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma list of origins, such as https://example.org, whose pages may call the service from a "
        "browser; without any, only the service's own pages may",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="warning leaves out the line for each request"
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto is text on a terminal, else JSON")

    @field_validator("api_keys", "cors_origins", "forwarded_by", "hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) and value else value or ()

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(re.fullmatch("[!-~]+", key.get_secret_value()) for key in keys):
            raise ValueError("a key has visible ASCII characters and no spaces, and one comma stands between two keys")
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[^\s/*]+", origin) for origin in origins):
            raise ValueError("an origin is a scheme and a host, as https://example.org, without a path and without *")
        return origins

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:.]+", host) for host in hosts):
            raise ValueError("a host is a name or an address, as example.org, without a scheme, a port or a path")
        return tuple(host.lower() for host in hosts)

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, value: str | None) -> str | None:
        prefix = (value or "").rstrip("/")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", prefix):
            raise ValueError("a prefix begins with a slash, as /latentd, and has only letters, digits and . _ ~ -")
        if (first := prefix.partition("/")[2].partition("/")[0]) in _OWN_ADDRESSES:
            raise ValueError(f"the service's own addresses begin with /{first}; choose another prefix")
        return prefix or None

    @field_validator("forwarded_by")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return proxies if proxies == ("*",) else tuple(str(ip_network(proxy)) for proxy in proxies)
        except ValueError as error:
            raise ValueError(f"{error}; name addresses or networks, as 10.0.0.0/8, or only *") from error

    @field_validator("port", mode="before")
    @classmethod
    def _is_no_service_link(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "Kubernetes has set LATENTD_PORT for a Service named latentd; set enableServiceLinks: false in the pod"
            )
        return value

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if self.workers > 1 and choose_device(self.device).type != "cpu":
            raise ValueError(f"workers {self.workers}: one process serves a GPU; set workers to 1, or device to cpu")
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_bodies_bytes {self.max_bodies_bytes} is less than max_body_bytes {self.max_body_bytes}, so the "
                "largest bodies could never be read; raise the first setting"
            )
        if self.max_answers_bytes < self.max_answer_bytes:
            raise ValueError(
                f"max_answers_bytes {self.max_answers_bytes} is less than max_answer_bytes {self.max_answer_bytes}, so "
                "the largest answers could never be given; raise the first setting"
            )
        if self.queue_images < self.max_images_per_request:
            raise ValueError(
                f"queue_images {self.queue_images} is less than max_images_per_request "
                f"{self.max_images_per_request}, so the largest requests could never be "
                "accepted; raise the first setting"
            )
        return self
