"""A virtual environment for each peer with pinned versions, made when it is first needed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = "latentd"
SERVERS = ROOT / "benchmarks/serving/peers"
TRAINERS = ROOT / "benchmarks/training/peers"
TORCH = "torch==2.13.0"  # installed first, so that the range of a peer does not pull in a build with CUDA
OTHER_PYTHON = {
    "triton": "/usr/bin/python3"
}  # Triton loads a shared libpython; Debian's Python has one, pyenv's does not
_PLACES = re.compile(r"\S*(?:://|/)\S*")  # a reader cannot use addresses and paths of this machine
TOLD_CHARACTERS = 200


class CannotInstall(Exception):
    """A peer's environment could not be made; the message is pip's last error."""


def python(peer: str) -> Path:
    """The interpreter of a peer's environment. The environment is made if it is missing or has other versions.

    Our service has an environment of its own too. In the environment of this process it would share the memory pages
    of torch, and seem to need less memory.

    Raises:
        CannotInstall: it cannot be made.
    """
    folder = ROOT / f".venv-bench-{peer}"
    interpreter, stamp, wanted = folder / "bin" / "python", folder / "made-for", _fingerprint(peer)
    if stamp.is_file() and stamp.read_text() == wanted:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    _call([OTHER_PYTHON.get(peer, sys.executable), "-m", "venv", "--without-pip", str(folder)])
    _install(interpreter, TORCH)
    _install(interpreter, *_wanted(peer))
    stamp.write_text(wanted)
    return interpreter


def _wanted(peer: str) -> list[str]:
    """The arguments of pip: this checkout, or a peer's pinned versions."""
    if peer == OURS:
        return ["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[onnxruntime]"]
    return ["--requirement", str(_requirements(peer))]


def _fingerprint(peer: str) -> str:
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt"] if peer == OURS else [_requirements(peer)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _requirements(peer: str) -> Path:
    (found,) = (folder / peer / "requirements.txt" for folder in (SERVERS, TRAINERS) if (folder / peer).is_dir())
    return found


def version(peer: str) -> str:
    """The pinned version of the peer's own package, such as `mosec 0.9.8`; FastAPI's for a peer without one."""
    lines = _requirements(peer).read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    package = {"naive": "fastapi", "triton": "nvidia-pytriton"}.get(peer, peer)
    return f"{package} {pins[package]}"


def reason(text: str) -> str:
    """The last line that names an error, else the last line, without addresses and paths."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    return _PLACES.sub("…", errors[-1])[:TOLD_CHARACTERS] if errors else "it said nothing"


def _install(interpreter: Path, *what: str) -> None:
    """Install with the pip of this environment, so that the other one needs none."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
    _call([*pip, "install", "--quiet", *what])


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    except OSError as error:
        raise CannotInstall(f"{Path(command[0]).name}: {error.strerror}") from error
    if done.returncode != 0:
        raise CannotInstall(reason(done.stderr or done.stdout))
