"""The commands and the Python of the README and of the pages for newcomers work as written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .process import Process

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "model_store" / "models"
PICTURES = {
    "README.md": {"samples.png", "digit.png", "decoded.png", "reconstruction.png"},
    "docs/quickstart.md": {"samples.png", "reconstruction.png", "between.png", "traversal.png", "mine.png"},
    "docs/api.md": {"two.png", "decoded.png", "between.png", "traversal.png"},
    "docs/how-to/decode-what-encode-gave.md": {"digit.png", "decoded.png"},
    "docs/how-to/read-the-metrics.md": set(),
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the default model that ships, without what a developer has trained since."""
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(MODELS / "mnist" / "2", root / "mnist" / "2")
    shutil.copy(MODELS / "_default", root)
    return root


@pytest.fixture(scope="module")
def url(store: Path) -> Iterator[str]:
    """The service as `make serve` starts it, on a free port."""
    process = Process(store)
    process.wait_for("ready")
    yield process.url
    process.kill()


def blocks(page: str, language: str) -> list[str]:
    """The code of a page that a reader would run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.timeout(300)  # the quickstart trains a model, and each command imports torch
@pytest.mark.parametrize("page", PICTURES)
def test_commands_work_as_written(page: str, url: str, store: Path, tmp_path: Path) -> None:
    """The commands run one after the other; the fixture stands for `make serve`."""
    commands = "".join(block for block in blocks(page, "sh") if not block.startswith("make"))
    # a version that was published a moment ago is not served at once
    curl = "curl -fsS --retry 20 --retry-all-errors --retry-delay 1 "
    script = commands.replace("localhost:8000", url.removeprefix("http://")).replace("curl ", curl)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LATENTD_STORE": str(store),
        "LATENTD_CACHE": os.devnull,
    }

    result = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.glob("*.png")} >= PICTURES[page]


def test_python_examples_work(url: str, tmp_path: Path) -> None:
    """The examples run one after the other, and the shapes in their comments are true."""
    code = "".join(blocks("docs/how-to/use-it-from-python.md", "python")).replace("http://localhost:8000", url)
    checks = "assert (latents.shape, images.shape, model) == ((8, 32), (8, 28, 28, 1), 'mnist@2')"

    result = subprocess.run(
        [sys.executable, "-c", code + checks], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr


def test_readme_is_short() -> None:
    """A newcomer reads the page in one go; longer texts are in docs."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
