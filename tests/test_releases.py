"""The version has one home, pyproject.toml; the changelog and the running app agree with it."""

import re
import tomllib
from datetime import date
from pathlib import Path

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
HEADINGS = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


def test_changelog_has_the_version_as_its_newest_release() -> None:
    """Changes that are not released stand on top, above the dated releases."""
    unreleased, newest, *_ = HEADINGS
    version, day = newest.split(" — ")

    assert unreleased == "Unreleased"
    assert version == VERSION
    assert date.fromisoformat(day).year >= 2026


def test_app_tells_the_version_of_the_package(tmp_path: Path) -> None:
    """OpenAPI clients see the version that pyproject.toml names."""
    assert create_app(Settings(store=tmp_path)).version == VERSION
