"""The compose file agrees with the Dockerfile and the settings; `test_container.py` runs the images."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import probe
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
KEYS = (ROOT / "deploy" / "compose.keys.yml").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def test_service_has_time_to_answer_the_requests_under_way() -> None:
    """Compose kills after its grace period, which is longer than the deadlines of a request."""
    deadlines = Settings()
    grace_s = int(SERVICES["latentd"]["stop_grace_period"].removesuffix("s"))

    assert grace_s > deadlines.drain_s + deadlines.body_timeout_s + deadlines.timeout_s


def test_volumes_are_folders_that_the_image_gives_to_its_user() -> None:
    """A new volume takes the owner of the image's folder; without one it belongs to root and cannot be written."""
    owned = re.findall(r"mkdir (.+?) && chown 65532:65532 (.+)", DOCKERFILE)
    targets = {
        volume.split(":")[1]
        for name in ("latentd", "train")
        for volume in SERVICES[name]["volumes"]
        if not volume.startswith("${DATA")
    }

    assert [made for made, given in owned if made == given] == [" ".join(("/models", "/runs", "/cache"))]
    assert targets == {"/models", "/runs", "/cache"}


def test_trainer_keeps_runs_and_downloads_in_volumes() -> None:
    """`docker compose run --rm` removes the container with every file outside of volumes."""
    (entrypoint,) = re.findall(r'^ENTRYPOINT (\[.*"training".*\])$', DOCKERFILE, re.MULTILINE)
    targets = {volume.split(":")[1] for volume in SERVICES["train"]["volumes"] if not volume.startswith("${DATA")}

    assert set(re.findall(r'"(/\w+)"', entrypoint)) <= targets
    assert "LATENTD_STORE=/models" in DOCKERFILE


def test_both_images_stop_by_sigterm() -> None:
    """The service and the trainer alike."""
    assert DOCKERFILE.count("STOPSIGNAL SIGTERM") == DOCKERFILE.count("ENTRYPOINT")


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    """A model or a picture that harms its container cannot harm the machine."""
    service = SERVICES[name]

    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "cpus"} <= service.keys()


def test_trainer_has_no_network() -> None:
    """`download` has one, and sees neither models nor pictures."""
    assert SERVICES["train"]["network_mode"] == "none"
    assert SERVICES["download"]["volumes"] == ["cache:/cache"]


def test_only_a_service_with_keys_is_published_to_other_machines() -> None:
    """One port is published, on the loopback; the file that publishes it to all needs a file of keys."""
    keys = KEYS.split("services:")[1]

    assert [name for name, service in SERVICES.items() if "ports" in service] == ["latentd"]
    assert SERVICES["latentd"]["ports"] == ["127.0.0.1:${LATENTD_PORT:-8000}:8000"]
    assert "LATENTD_API_KEYS_FILE: /run/secrets/latentd_keys" in keys
    assert "file: ${KEYS_FILE:?" in keys


def test_service_that_must_be_restarted_is_restarted() -> None:
    """The health check ends it, within its time limit, and the restart policy starts it again."""
    service = SERVICES["latentd"]
    tries_s = probe.TRIES * (probe.ANSWER_S + probe.PAUSE_S)

    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "service.probe", "--or-end"]
    assert service["restart"] == "unless-stopped"
    assert int(service["healthcheck"]["timeout"].removesuffix("s")) > probe.ANSWER_S + tries_s + probe.GRACE_S


def test_images_are_built_from_exact_files() -> None:
    """The base by its digest, every package by its hash, and torch from one index only."""
    installs = re.findall(r"pip install ([^\n]*)", DOCKERFILE)

    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    assert "--extra-index-url" not in DOCKERFILE


@pytest.mark.parametrize("name", ["torch", "cuda", "service", "training", "diffusers", "build"])
def test_every_locked_package_has_hashes(name: str) -> None:
    """`make locks` writes the files."""
    lock = (ROOT / "deploy" / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-zA-Z])", lock, flags=re.MULTILINE)[1:]

    assert packages
    assert all("--hash=sha256:" in package for package in packages)


@pytest.mark.parametrize("name", ["torch", "service", "training", "diffusers"])
def test_locked_versions_are_those_that_the_tests_run_with(name: str) -> None:
    """After a change of constraints.txt, run `make locks`."""
    lock = (ROOT / "deploy" / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    tested = {normal(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split() if "==" in line}
    names = {line.partition("==")[0] for line in tested}
    locked = {normal(line.split()[0]) for line in lock.splitlines() if re.match(r"[a-z]", line)}

    assert locked
    assert {line for line in locked if line.partition("==")[0] in names} <= tested


def normal(requirement: str) -> str:
    """A requirement as the package index spells it."""
    return requirement.replace("_", "-").lower()
