"""The service in process, with one small model, and the service as a process with short deadlines."""

from collections.abc import Iterator

import pytest

from ..process import Process
from ..serving import serving
from .properties import Prey, let_loose


@pytest.fixture(scope="package")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prey]:
    """What Hypothesis is let loose on."""
    with let_loose(tmp_path_factory.mktemp("prey")) as prey:
        yield prey


@pytest.fixture(scope="package")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process that waits for nobody for long."""
    with serving(tmp_path_factory.mktemp("impatient")) as process:
        yield process
