"""The machine and the date of a measurement: without these a number means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .environments import ROOT


def machine(command: str) -> dict[str, str]:
    """Words for a table: processor, memory, versions, commit, date, the command."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "command": f"`{command}`",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "torch": version("torch"),
    }


def commit() -> str:
    """The commit, and whether tracked files have changed since."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{_git('rev-parse', '--short=12', 'HEAD') or 'unknown'}{', with changes' if changed else ''}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip()


def _processor() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float:
    total = next(line for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal"))
    return int(total.split()[1]) / 2**20


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
