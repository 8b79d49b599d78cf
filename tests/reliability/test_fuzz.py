"""A short search for inputs that break the service; `make fuzz` is the long one."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ..process import Process, unharmed
from ..serving import PATIENT, serving
from . import good_requests
from .bytes_fuzz import fuzz
from .openapi_fuzz import KEY, conforms
from .properties import PROPERTIES, Subject, hold

INPUTS = 1_000
EXAMPLES = 60
OF_THE_DESCRIPTION = 8  # examples of each operation


def test_mutated_requests_are_answered_in_time_and_without_errors_of_our_own(impatient: Process) -> None:
    """First the good requests, and eight methods at every route; afterwards the service is unharmed."""
    host, port = impatient.address
    findings = fuzz(host, port, INPUTS, seed=1)

    assert findings.bugs == []
    assert findings.inputs == INPUTS > len([*good_requests.good(), *good_requests.any_method()])
    assert findings.closed < INPUTS / 20  # most get an answer
    assert len(findings.statuses) > 5  # the inputs get beyond the first check
    assert unharmed(impatient) == []


def test_no_route_is_left_out(impatient: Process) -> None:
    """Every route of the OpenAPI description is fuzzed, with the default model or a named one."""
    told = httpx.get(f"{impatient.url}/openapi.json").json()["paths"]
    routes = {re.sub(r"\{\w+\}", "[^/]+", re.sub(r"^/v1/models/\{\w+\}/", "/v1/", path)) for path in told}
    tried = {re.sub(r"^/v1/models/[^/]+/", "/v1/", target.split("?")[0]) for target in targets()}

    assert {route for route in routes if not any(re.fullmatch(route, target) for target in tried)} == set()


def targets() -> set[str]:
    """The targets of the good requests."""
    return {request.split(b" ")[1].decode() for request in good_requests.good()}


@pytest.mark.parametrize("prop", PROPERTIES, ids=lambda prop: prop.__name__)
def test_property_holds_of_all_inputs(subject: Subject, prop: Callable[..., None]) -> None:
    """Answers are short and not errors of our own; readers return what they promise, or refuse."""
    assert hold(prop, subject, EXAMPLES) >= EXAMPLES / 2


def test_service_keeps_to_its_openapi_description(tmp_path: Path) -> None:
    """The description has all answers, methods and media types, and says where keys are needed."""
    with serving(
        tmp_path, *PATIENT, LATENTD_API_KEYS=KEY, LATENTD_OPEN_WITHOUT_KEY="true"
    ) as process:  # patient, since the description has no answers for deadlines
        assert conforms(process.url, OF_THE_DESCRIPTION) > 20 * OF_THE_DESCRIPTION
        assert unharmed(process) == []
