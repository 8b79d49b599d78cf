"""The README's commands work as written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .service.listening.test_server import Process

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the model that ships, and not what a developer has trained since."""
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(ROOT / "model_store" / "models" / "mnist" / "1", root / "mnist" / "1")
    return root


@pytest.fixture(scope="module")
def url(shelf: Path) -> Iterator[str]:
    """The service as `make serve` starts it, on a free port."""
    process = Process(shelf)
    process.wait_for("ready")
    yield process.url
    process.kill()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_commands_work_as_written(url: str, shelf: Path, tmp_path: Path) -> None:
    """All of them, one after the other, as a newcomer would; but for `make serve`, which the fixture stands for."""
    commands = "".join(block for block in BLOCKS if not block.startswith("make"))
    script = commands.replace("localhost:8000", url.removeprefix("http://")).replace("curl ", "curl -fsS ")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PYTHONPATH": str(ROOT), "LATENTD_STORE": str(shelf), "LATENTD_CACHE": os.devnull}

    result = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env={**os.environ, "PATH": path, **ours}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.glob("*.png")} >= {
        "samples.png", "digit.png", "decoded.png", "reconstruction.png",
    }  # fmt: skip
    assert "sound versions: 1 of 1" in result.stdout


def test_python_example_works(url: str, tmp_path: Path) -> None:
    """As written."""
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    code = example.replace("http://localhost:8000", url) + "\nassert latents.shape == (8, 32)"

    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


def test_pictures_and_files_it_mentions_are_there() -> None:
    """No broken link."""
    mentioned = re.findall(r"\]\(((?!http)[^)]+)\)|src=\"([^\"]+)\"", README)

    assert mentioned
    assert ["".join(path) for path in mentioned if not (ROOT / "".join(path)).is_file()] == []
