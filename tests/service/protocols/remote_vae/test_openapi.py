"""The OpenAPI describes both endpoints, whose bodies and answers are not JSON."""

from typing import Any

import httpx
import pytest

from service.protocols.remote_vae.routes import TAG

pytestmark = pytest.mark.anyio


@pytest.fixture
async def paths(client: httpx.AsyncClient) -> dict[str, Any]:
    """The paths of /openapi.json."""
    described: dict[str, Any] = (await client.get("/openapi.json")).json()
    return dict(described["paths"])


@pytest.mark.parametrize(
    ("operation", "taken", "given"),
    [
        ("encode", {"image/png", "image/jpeg", "image/webp", "tensor/binary"}, {"tensor/binary"}),
        ("decode", {"tensor/binary"}, {"tensor/binary", "image/jpeg", "image/png"}),
    ],
)
async def test_endpoint_lists_every_form_in_and_out(
    paths: dict[str, Any], operation: str, taken: set[str], given: set[str]
) -> None:
    """All of them are binary, and a tensor has two headers."""
    described = paths[f"/v1/models/{{model}}/remote/{operation}"]["post"]
    body, answer = described["requestBody"]["content"], described["responses"]["200"]
    schemas = [content["schema"] for content in [*body.values(), *answer["content"].values()]]

    assert (body.keys(), answer["content"].keys()) == (taken, given)
    assert schemas == [{"type": "string", "format": "binary"}] * len(schemas)
    assert {"shape", "dtype"} < answer["headers"].keys()
    assert described["tags"] == [TAG["name"]]


@pytest.mark.parametrize("operation", ["encode", "decode"])
async def test_endpoint_lists_its_parameters_and_errors(paths: dict[str, Any], operation: str) -> None:
    """The errors are problem documents, and the parameters are described."""
    described = paths[f"/v1/models/{{model}}/remote/{operation}"]["post"]
    names = {parameter["name"] for parameter in described["parameters"]}
    errors = {status: answer["content"].keys() for status, answer in described["responses"].items() if status != "200"}

    assert names > {"model", "shape", "dtype", "scaling_factor", "shift_factor", "do_scaling"}
    assert errors.keys() > {"400", "401", "404", "413", "415", "422", "429", "503", "504"}
    assert all(media_types == {"application/problem+json"} for media_types in errors.values())


async def test_short_addresses_are_not_listed_twice(paths: dict[str, Any]) -> None:
    """The tag tells of them."""
    assert [path for path in paths if "/remote/" in path and "{model}" not in path] == []
    assert "/v1/remote/decode" in TAG["description"]
