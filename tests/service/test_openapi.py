"""The OpenAPI tells the truth about bodies that are not JSON."""

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

IMAGES_IN = {
    "image/png", "image/jpeg", "image/webp", "multipart/form-data", "application/json", "application/x-npy",
    "application/vnd.safetensors",
}  # fmt: skip
LATENTS = {"application/json", "application/x-npy", "application/vnd.safetensors"}
PICTURES = LATENTS | {"image/png", "image/jpeg", "image/webp"}


@pytest.fixture
async def paths(client: httpx.AsyncClient) -> dict[str, Any]:
    """What /openapi.json says of each path."""
    return (await client.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize("prefix", ["/v1", "/v1/models/{model}"])
@pytest.mark.parametrize(
    ("operation", "method", "taken", "given"),
    [
        ("encode", "post", IMAGES_IN, LATENTS),
        ("decode", "post", LATENTS, PICTURES),
        ("sample", "get", set(), PICTURES),
        ("reconstruct", "post", IMAGES_IN, PICTURES),
        ("score", "post", IMAGES_IN, {"application/json"}),
        ("interpolate", "post", IMAGES_IN, PICTURES),
        ("traverse", "get", set(), PICTURES),
    ],
)
async def test_operation_lists_every_form_in_and_out(
    paths: dict[str, Any], prefix: str, operation: str, method: str, taken: set[str], given: set[str]
) -> None:
    """Binary ones as binary."""
    described = paths[f"{prefix}/{operation}"][method]
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
    """Every status of the contract."""
    responses = paths[f"/v1/{operation}"]["post"]["responses"]
    errors = {"400", "401", "404", "406", "408", "413", "415", "422", "429", "500", "503", "504"}

    assert responses.keys() == errors | {"200"}
    assert all(responses[status]["content"].keys() == {"application/problem+json"} for status in errors)


async def test_named_operations_describe_the_model_in_their_path(paths: dict[str, Any]) -> None:
    """And the others have none."""
    named = [parameter["name"] for parameter in paths["/v1/models/{model}/sample"]["get"]["parameters"]]
    default = [parameter["name"] for parameter in paths["/v1/sample"]["get"]["parameters"]]

    assert sorted(named) == ["format", "model", "n", "seed", "temperature"]
    assert sorted(default) == ["format", "n", "seed", "temperature"]


async def test_operation_ids_are_unique(paths: dict[str, Any]) -> None:
    """So that a client can be generated."""
    ids = [described["operationId"] for path in paths.values() for described in path.values()]

    assert len(ids) == len(set(ids))
