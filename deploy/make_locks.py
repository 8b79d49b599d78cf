"""`make locks`: the exact packages of the images, each with the SHA-256 of every file that may be installed.

uv (the `uv` in PATH) resolves pyproject.toml within constraints.txt, for every platform. torch has a file of its own,
since it may come from another index, and so have the packages of CUDA, which only a torch with CUDA needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "locks"
PYTHON = "3.11"  # of the images

# torch 2.13.0 for CPython 3.11 and x86-64 in PyTorch's index of CPU wheels; the package index has other files
CPU_TORCH = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"

CUDA = re.compile("nvidia|cuda|triton")


def compile_lock(source: Path, *options: str) -> dict[str, str]:
    """The requirements of a source with their hashes, by the name of the package."""
    text = subprocess.run(  # noqa: S603  # our own files
        ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate",  # noqa: S607
         "--python-version", PYTHON, "--constraint", "constraints.txt", *options, str(source)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    requirements = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return {requirement.partition("==")[0]: requirement for requirement in requirements if requirement}


def write(name: str, requirements: list[str]) -> None:
    """Write a lock file."""
    (FOLDER / name).write_text("# Written by `make locks`.\n" + "".join(requirements), encoding="utf-8")


def main() -> int:
    """Write all lock files."""
    project = ROOT / "pyproject.toml"
    service = compile_lock(project, "--extra", "onnxruntime")
    training = compile_lock(project, "--extra", "training")
    diffusers = compile_lock(project, "--extra", "diffusers", "--extra", "hub")
    build = FOLDER / "build.in"
    write("torch.txt", [f"{service['torch'].rstrip()} \\\n    --hash=sha256:{CPU_TORCH}\n"])
    write("cuda.txt", [text for name, text in service.items() if CUDA.match(name)])
    for name, lock in (("service.txt", service), ("training.txt", training), ("diffusers.txt", diffusers)):
        write(name, [text for package, text in lock.items() if package != "torch" and not CUDA.match(package)])
    write("build.txt", [*compile_lock(build).values()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
