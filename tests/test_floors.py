"""The lowest versions of dependencies that are allowed, and the worst known files of the versions below them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
REQUIRED = [Requirement(line) for line in (*PROJECT["dependencies"], *EXTRAS) if not line.startswith("latentd")]

# The newest version with a hole that a request, a file or a model could reach, and the hole.
LAST_BAD = {
    "fastapi": ("0.65.1", "GHSA-8h2j-cgx8-6xv7: JSON under another Content-Type"),
    "pillow": ("12.3.0", "EXIF data of 252 kB takes a gigabyte"),
    "python-multipart": ("0.0.26", "CVE-2026-42561: headers of parts without bound"),
    "starlette": ("0.47.1", "CVE-2025-54121: large parts block the event loop"),
    "torch": ("2.9.1", "CVE-2026-24747: weights that write to memory"),
}


@pytest.mark.parametrize("required", REQUIRED, ids=lambda required: required.name)
def test_each_dependency_has_a_floor_that_is_reached(required: Requirement) -> None:
    """An environment with an older version fails here, and not by a file of a client."""
    try:
        installed = version(required.name)
    except PackageNotFoundError:
        pytest.skip(f"{required.name} is part of an extra that is not installed")

    assert any(specifier.operator == ">=" for specifier in required.specifier)
    assert required.specifier.contains(installed.partition("+")[0], prereleases=True)


@pytest.mark.parametrize("name", LAST_BAD)
def test_floor_excludes_the_last_version_with_a_known_hole(name: str) -> None:
    """The lowest version that is allowed is newer."""
    floor = next(Version(specifier.version) for required in REQUIRED if required.name == name
                 for specifier in required.specifier if specifier.operator == ">=")  # fmt: skip

    assert floor > Version(LAST_BAD[name][0])


WORST_EXIF = """
import resource, struct, warnings
from PIL import Image
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))
count = 21_000  # entries, each with all bytes of the file
entries = b"".join(struct.pack("<HHLL", tag, 7, 12 * count, 8) for tag in range(count))
Image.Exif().load(b"Exif\\0\\0II*\\0\\x08\\0\\0\\0" + struct.pack("<H", count) + entries + bytes(4))
"""


def test_worst_known_file_of_pillow_takes_little_memory() -> None:
    """EXIF data of 252 kB has 21,000 entries of 252 kB each, all at the same place: Pillow 12.3 copies each."""
    subprocess.run([sys.executable, "-c", WORST_EXIF], check=True)


def test_pictures_are_opened_with_named_formats() -> None:
    """Pillow would otherwise try every format that it knows, and would start Ghostscript for EPS."""
    root = Path(__file__).parent.parent
    files = [path for room in ("benchmarks", "deploy", "docs", "model_store", "service", "training")
             for path in (root / room).rglob("*.py")]  # fmt: skip
    calls = [line for path in files for line in re.findall(r"Image\.open\(.*", path.read_text(encoding="utf-8"))]

    assert len(calls) >= 3
    assert [call for call in calls if "formats=" not in call] == []
