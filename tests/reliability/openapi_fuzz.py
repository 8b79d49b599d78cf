"""The service keeps to its OpenAPI description: valid requests are answered, invalid ones refused, as it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import schemathesis
from hypothesis import assume, given
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok

from .search import search

_NAMED = "/v1/models/{model}/"
KEY = "correct-horse"  # with keys, so that requests with a wrong key are tried too

# A description cannot say what binary bodies contain, how large a model's images are, or how many are too many. It does
# not limit the bytes of an address, of headers or of a body either: each may be too large, in an invalid request too.
_ANSWERED = {
    "positive_data_acceptance": {
        "expected-statuses": ["2xx", "400", "401", "404", "413", "414", "415", "422", "429", "431"]
    },
    "negative_data_rejection": {"expected-statuses": ["4xx"]},
}

schemathesis.serializer.alias("tensor/binary", "application/octet-stream")  # a media type that only diffusers knows


def conforms(url: str, examples: int) -> int:
    """Run every check of Schemathesis on every operation, with valid and invalid requests.

    Return the number of cases tried; the service at the URL must have the key `KEY`.

    Raises:
        schemathesis.core.failures.FailureGroup: a check failed; the error says which, and how to repeat it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the versions of its own dependencies
        config = SchemathesisConfig.from_dict({"base-url": url, "checks": _ANSWERED})
        description = requests.get(f"{url}/openapi.json", timeout=20).json()
        description["paths"] |= dict(_short_forms(description["paths"]))
        schema = schemathesis.openapi.from_dict(description, config=config)
        tried = 0
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            tried += sum(_holds(found.ok(), mode, examples) for mode in GenerationMode)
        return tried


def _short_forms(paths: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operations at their addresses without a model, which the description mentions only in a note."""
    for path, methods in paths.items():
        if path.startswith(_NAMED):
            yield path.replace(_NAMED, "/v1/"), {method: _without_model(each) for method, each in methods.items()}


def _without_model(operation: dict[str, Any]) -> dict[str, Any]:
    parameters = [parameter for parameter in operation["parameters"] if parameter["name"] != "model"]
    return {**operation, "operationId": f"short_{operation['operationId']}", "parameters": parameters}


def _holds(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, examples: int) -> int:
    """The number of cases tried of one operation; an operation without parameters has no invalid cases."""
    tried = 0

    @search(examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Case[Any]) -> None:
        nonlocal tried
        assume(mode is GenerationMode.POSITIVE or _arrives(case))
        tried += 1
        case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"})

    with suppress(Unsatisfiable):
        holds()
    return tried


def _arrives(case: Case[Any]) -> bool:
    """Whether the whole query is sent: an empty list is left out of the address, and so cannot be invalid."""
    address = str(requests.Request("GET", "http://latentd", params=case.query or {}).prepare().url)
    return {name for name, _ in parse_qsl(urlsplit(address).query, keep_blank_values=True)} >= set(case.query or {})
