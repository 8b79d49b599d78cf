"""A command that gets a signal while it imports, which takes it seconds."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

_AT_IMPORT = """
import os, sys

class Finder:
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder)
"""


def signalled(
    command: Sequence[str], number: signal.Signals, folder: Path, module: str = "torch"
) -> subprocess.CompletedProcess[str]:
    """Run a command of Python, which sends itself the signal when it begins to import the module."""
    (folder / "sitecustomize.py").write_text(_AT_IMPORT.format(module=module, number=int(number)))
    path = f"{folder}:{os.environ.get('PYTHONPATH', '.')}"
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
