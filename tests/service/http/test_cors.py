"""Pages of other sites may call the service if the operator names their origin."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from service.settings import Settings

from ..conftest import check_unharmed, running

pytestmark = pytest.mark.anyio

OURS = "https://example.org"


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that has a key, and that pages of two origins may call."""
    origins = f"{OURS}, http://localhost:3000"
    async with running(settings, api_keys="first", cors_origins=origins) as (_, client):
        yield client
        await check_unharmed(client, key="first")


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    """The preflight that a browser sends before it sends a picture and a key."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    return await client.options("/v1/encode", headers={"Origin": origin, **asked})


async def test_named_origin_may_send_a_key(shared: httpx.AsyncClient) -> None:
    """The preflight itself carries no key: browsers send it so."""
    answer = await preflight(shared, OURS)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OURS
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.org", "https://example.org.evil.org", "null", "http://example.org"])
async def test_other_origins_may_not(shared: httpx.AsyncClient, origin: str) -> None:
    """The preflight is refused, and no answer names the origin."""
    before = await preflight(shared, origin)
    answer = await shared.get("/v1/sample", headers={"Origin": origin, "Authorization": "Bearer first"})

    assert before.status_code == 400
    assert not [name for response in (before, answer) for name in response.headers if name.endswith("allow-origin")]


async def test_pages_can_read_what_headers_say(shared: httpx.AsyncClient) -> None:
    """A header is the seed of a sample, for example. Vary makes caches keep origins apart."""
    answer = await shared.get("/v1/sample", headers={"Origin": OURS, "Authorization": "Bearer first"})

    assert answer.headers["access-control-allow-origin"] == OURS
    assert "X-Seed" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


async def test_without_origins_no_page_may(client: httpx.AsyncClient) -> None:
    """The service then answers as if CORS did not exist."""
    assert (await preflight(client, OURS)).status_code == 405
    assert "access-control-allow-origin" not in (await client.get("/v1/sample", headers={"Origin": OURS})).headers


@pytest.mark.parametrize(
    "origins", ["*", "example.org", "https://*.example.org", "https://a.org/path", "https://a.org,"]
)
def test_origins_are_named_in_full(origins: str) -> None:
    """A star would let the pages of every site call the service."""
    with pytest.raises(ValidationError, match="a scheme and a host"):
        Settings(cors_origins=origins)
