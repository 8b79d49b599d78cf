"""The compose file agrees with the Dockerfile and the settings; `test_container.py` runs the images."""

import re
from pathlib import Path
from typing import Any

import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
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


def test_both_images_stop_by_sigterm_without_privileges() -> None:
    """The service and the trainer alike."""
    assert DOCKERFILE.count("STOPSIGNAL SIGTERM") == DOCKERFILE.count("ENTRYPOINT")
    assert all(SERVICES[name]["cap_drop"] == ["ALL"] for name in ("latentd", "train"))
