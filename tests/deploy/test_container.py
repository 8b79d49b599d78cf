"""The images of the Dockerfile, run as docker-compose.yml says: `make test-container`, which takes some minutes.

CONTAINER_TOOLS names a folder with two commands: `build CONTEXT TAG [--target NAME] [--build-arg NAME=VALUE]`, and
`run IMAGE COMMAND…`, which takes volumes from MOUNT (`/host:/inside[:ro] …`) and the names of variables to pass on from
PASS.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from ..process import free_port

ROOT = Path(__file__).parents[2]
TOOLS = os.environ.get("CONTAINER_TOOLS", "")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
BASE = "docker.io/library/python:3.11-slim-bookworm"  # without its digest: the tools have made an image of that name
USER = 65532  # of the images
WAIT_S = 120.0

pytestmark = [
    pytest.mark.skipif(not TOOLS, reason="CONTAINER_TOOLS names no folder of container tools"),
    pytest.mark.timeout(1800),
]


class Compose:
    """`docker compose` as far as these tests need it: the services of the file, with their volumes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        for volume in ("models", "cache", "runs", "data"):
            (folder / volume).mkdir()
        models = ROOT / "model_store" / "models"
        shutil.copy(models / "_default", folder / "models")
        shutil.copytree(models / "mnist", folder / "models" / "mnist")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`docker compose up NAME`, or `docker compose run NAME ARGUMENTS`."""
        service = SERVICES[name]
        named = {**service.get("environment", {}), **environment}
        passed = {key: value for key, value in named.items() if not value.startswith("${")}
        command = [*(service.get("entrypoint") or entrypoint(service["image"])), *arguments]
        process = subprocess.Popen(
            [f"{TOOLS}/run", service["image"], *command],
            env={**os.environ, **passed, "PASS": " ".join(passed), "MOUNT": " ".join(self._mounts(name))},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit status of a command, and its output."""
        process = self.start(name, *arguments, **environment)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def end(self) -> None:
        """End every process that still runs."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.communicate(timeout=60)

    def _mounts(self, name: str) -> Iterator[str]:
        for volume in SERVICES[name]["volumes"]:
            source, _, target = volume.replace("${DATA:-./data}", "data").partition(":")
            yield f"{self.folder / source}:{target}"


def entrypoint(image: str) -> list[str]:
    """The command with which an image starts."""
    told = subprocess.run(
        ["buildah", "inspect", "--type", "image", image],  # noqa: S607  # wherever the system has it
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    command: list[str] = json.loads(told.stdout)["OCIv1"]["config"]["Entrypoint"]
    return command


def wait_for(url: str) -> httpx.Response:
    """The first answer of status 200."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if (response := httpx.get(url)).is_success:
                return response
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{url} did not answer with 200 within {WAIT_S:g} s")


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    """Both images, built from this tree."""
    for name in ("latentd", "train"):
        service = SERVICES[name]
        subprocess.run(
            [f"{TOOLS}/build", str(ROOT), service["image"], "--target", service["build"]["target"],
             "--build-arg", f"BASE={BASE}"],
            check=True,
        )  # fmt: skip


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """The services, with the volumes that the images begin with, and a few pictures as data."""
    tmp_path.parent.parent.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    compose = Compose(tmp_path)
    np.save(tmp_path / "data" / "images.npy", np.random.default_rng(0).integers(0, 256, (64, 28, 28), np.uint8))
    yield compose
    compose.end()


def test_service_serves_what_the_trainer_publishes_into_the_volume(compose: Compose) -> None:
    """`docker compose up`, and `docker compose run --rm train …` beside it."""
    port = free_port()
    compose.start("latentd", LATENTD_PORT=str(port), LATENTD_HOST="127.0.0.1")
    wait_for(f"http://127.0.0.1:{port}/readyz")

    status, output = compose.run(
        "train", "mnist-mlp", "--data", "/data/images.npy", "--set", "epochs=1", "name=own"
    )  # fmt: skip

    assert status == 0, output
    assert "Published own@1" in output
    assert wait_for(f"http://127.0.0.1:{port}/v1/models/own").json()["version"] == 1
    assert wait_for(f"http://127.0.0.1:{port}/v1/models/own/sample?seed=1").headers["x-model"] == "own@1"
    assert wait_for(f"http://127.0.0.1:{port}/v1/sample?seed=7").headers["x-model"] == "mnist@2"


def test_finished_run_is_resumed_from_its_volume(compose: Compose) -> None:
    """A second container finds the run of the first."""
    arguments = ("mnist-mlp", "--data", "/data/images.npy", "--set", "epochs=1", "name=own")
    assert compose.run("train", *arguments)[0] == 0
    (run,) = (compose.folder / "runs").iterdir()

    status, output = compose.run("train", "--resume", f"/runs/{run.name}")

    assert status == 0, output
    assert "own@1" in output
    assert [folder.name for folder in (compose.folder / "models" / "own").iterdir()] == ["1"]


def test_gpu_service_without_a_gpu_says_so(compose: Compose) -> None:
    """`docker compose -f docker-compose.yml -f deploy/compose.gpu.yml up` on a machine without a CUDA device."""
    gpu = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yml").read_text(encoding="utf-8"))["services"]["latentd"]

    status, output = compose.run("latentd", LATENTD_PORT=str(free_port()), **gpu["environment"])

    assert status == 2
    assert "cuda" in output
    assert "Traceback" not in output
