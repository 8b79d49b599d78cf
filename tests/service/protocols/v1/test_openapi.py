"""The OpenAPI describes bodies that are not JSON as they are."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.protocols.v1.routes import ENDPOINTS

pytestmark = pytest.mark.anyio

IMAGES_IN = {
    "image/png", "image/jpeg", "image/webp", "multipart/form-data", "application/json", "application/x-npy",
    "application/vnd.safetensors",
}  # fmt: skip
LATENTS = {"application/json", "application/x-npy", "application/vnd.safetensors"}
PICTURES = LATENTS | {"image/png", "image/jpeg", "image/webp"}


@pytest.fixture
async def paths(client: httpx.AsyncClient) -> dict[str, Any]:
    """The paths of /openapi.json."""
    described: dict[str, Any] = (await client.get("/openapi.json")).json()
    return dict(described["paths"])


@pytest.mark.parametrize(
    ("operation", "method", "taken", "given"),
    [
        ("encode", "post", IMAGES_IN, LATENTS),
        ("decode", "post", LATENTS, PICTURES),
        ("sample", "get", set(), PICTURES),
        ("reconstruct", "post", IMAGES_IN, PICTURES),
        ("score", "post", IMAGES_IN, PICTURES - {"application/vnd.safetensors"}),
        ("interpolate", "post", IMAGES_IN, PICTURES),
        ("traverse", "get", set(), PICTURES),
    ],
)
async def test_operation_lists_every_form_in_and_out(
    paths: dict[str, Any], operation: str, method: str, taken: set[str], given: set[str]
) -> None:
    """Formats other than JSON are described as binary."""
    described = paths[f"/v1/models/{{model}}/{operation}"][method]
    body = described.get("requestBody", {"content": {}})["content"]
    answers = described["responses"]["200"]["content"]

    assert body.keys() == taken
    assert answers.keys() == given
    assert all(
        content["schema"] == {"type": "string", "format": "binary"}
        for media_type, content in (body | answers).items()
        if media_type not in ("application/json", "multipart/form-data")
    )


@pytest.mark.parametrize("operation", ["encode", "decode", "reconstruct", "score", "interpolate"])
async def test_operation_lists_its_errors_as_problems(paths: dict[str, Any], operation: str) -> None:
    """Every status of the HTTP contract is listed."""
    responses = paths[f"/v1/models/{{model}}/{operation}"]["post"]["responses"]
    errors = {"400", "401", "404", "406", "408", "413", "414", "415", "422", "429", "431", "500", "503", "504"}

    assert responses.keys() == errors | {"200"}
    assert all(responses[status]["content"].keys() == {"application/problem+json"} for status in errors)


async def test_address_with_values_can_be_too_long(paths: dict[str, Any]) -> None:
    """Each operation that reads its path or its query lists 414, and 431 for headers."""
    with_values = [each for path in paths.values() for each in path.values() if each.get("parameters")]

    assert len(with_values) > len(ENDPOINTS)  # the card is among them
    assert all({"414", "431"} <= each["responses"].keys() for each in with_values)


async def test_bodies_list_what_they_ignore_and_problems_their_index(paths: dict[str, Any]) -> None:
    """Any answer may be sent back, and a generated client finds the index of the image at fault."""
    described = paths["/v1/models/{model}/decode"]["post"]
    body = described["requestBody"]["content"]["application/json"]["schema"]
    problem = described["responses"]["422"]["content"]["application/problem+json"]["schema"]
    schemas = [endpoint.answer_schema for endpoint in ENDPOINTS if endpoint.answer_schema]
    members = {name for schema in schemas for name in schema.model_fields}

    assert body["additionalProperties"] is False
    assert list(body["patternProperties"]) == [f"^({'|'.join(sorted(members))})$"]
    assert members >= {"model", "version", "latents", "log_variance", "images", "seed", "psnr_db", "percentile"}
    assert "index" in problem["properties"].keys() - set(problem["required"])


async def test_named_operations_describe_the_model_in_their_path(paths: dict[str, Any]) -> None:
    """The name of the model is listed beside the parameters of the query, and for the card too."""
    named = [parameter["name"] for parameter in paths["/v1/models/{model}/sample"]["get"]["parameters"]]
    of_the_card = [parameter["name"] for parameter in paths["/v1/models/{model}"]["get"]["parameters"]]

    assert sorted(named) == ["format", "jpeg_quality", "model", "n", "sampler", "seed", "temperature"]
    assert of_the_card == ["model"]


async def test_each_operation_is_listed_once(client: httpx.AsyncClient) -> None:
    """The listed addresses name a model; a note explains the addresses of the default model."""
    described = (await client.get("/openapi.json")).json()
    (note,) = [tag["description"] for tag in described["tags"] if tag["name"] == "operations"]
    listed = [
        path for path, item in described["paths"].items() for each in item.values() if "operations" in each["tags"]
    ]

    assert len(listed) == len(ENDPOINTS)
    assert all(path.startswith("/v1/models/{model}/") for path in listed)
    assert "`/v1/encode`" in note


async def test_every_integer_has_a_format_that_its_bounds_fit(client: httpx.AsyncClient) -> None:
    """A generated client then has a type that holds the value."""
    schemas = [each for each in dicts_in((await client.get("/openapi.json")).json()) if each.get("type") == "integer"]
    largest = {"int32": 2**31 - 1, "int64": 2**63 - 1}

    assert len(schemas) > 50
    assert {each["format"] for each in schemas} == set(largest)
    for each in schemas:
        values = each.get("enum") or [each.get("const", each.get("minimum")), each.get("const", each.get("maximum"))]
        assert all(-largest[each["format"]] <= value <= largest[each["format"]] for value in values), each


def dicts_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value, at any depth."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from [value] if isinstance(value, dict) else []
    for child in children:
        yield from dicts_in(child)


async def test_operation_ids_are_unique(paths: dict[str, Any]) -> None:
    """Generated clients name their functions by these ids."""
    ids = [described["operationId"] for path in paths.values() for described in path.values()]

    assert len(ids) == len(set(ids))
