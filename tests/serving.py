"""The service as a process with one small model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store import Store

from .conftest import GREY, make_model
from .process import Process

IMPATIENT = ("--head-timeout-s=0.3", "--body-timeout-s=0.3", "--idle-timeout-s=1", "--reload-s=0")
PATIENT = ("--head-timeout-s=20", "--body-timeout-s=20", "--idle-timeout-s=60", "--reload-s=0")


@contextmanager
def serving(folder: Path, *flags: str, **environment: str) -> Iterator[Process]:
    """A ready service with one small model; without flags it has short deadlines."""
    store = Store(folder / "store")
    store.publish("grey", make_model(GREY))
    process = Process(store.root, *(flags or IMPATIENT), **environment)
    process.collect_log()
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.kill()
