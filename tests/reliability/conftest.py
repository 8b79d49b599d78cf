"""The service in process, with one small model, and the service as a process with short deadlines."""

from collections.abc import Iterator

import pytest

from ..process import Process
from ..serving import serving
from .properties import Subject, open_subject


@pytest.fixture(scope="package")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The service in process, for Hypothesis."""
    with open_subject(tmp_path_factory.mktemp("subject")) as subject:
        yield subject


@pytest.fixture(scope="package")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process with short deadlines."""
    with serving(tmp_path_factory.mktemp("impatient")) as process:
        yield process
