"""Where keys are set, /v1 takes one; probes never do."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def locked(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A service with two keys."""
    app = create_app(Settings(**settings.model_dump(exclude={"api_keys"}), api_keys="first, second"))
    await app.state.parts.engine.registry.refresh()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://latentd") as client:
        yield client


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer firs", "Bearer first2", "Basic first", "first", "Bearer é"],
)
async def test_without_a_right_key_there_is_no_answer(locked: httpx.AsyncClient, header: str | None) -> None:
    """401, with the scheme; also for models that do not exist, so that nothing is learned."""
    headers = {} if header is None else {"Authorization": header.encode()}
    responses = [await locked.get(path, headers=headers) for path in ("/v1/sample", "/v1/models", "/v1/models/blue")]

    assert [response.status_code for response in responses] == [401, 401, 401]
    assert responses[0].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["first", "second"])
async def test_any_of_the_keys_opens(locked: httpx.AsyncClient, key: str) -> None:
    """So that one can be replaced while the other still works."""
    response = await locked.get("/v1/sample", headers={"Authorization": f"Bearer {key}"})

    assert response.status_code == 200


@pytest.mark.parametrize("keys", [",", " ", "a,,b", "a b", "é", "a,"])
def test_keys_that_cannot_be_meant_are_refused(keys: str) -> None:
    """A service never starts open, or with a key that nobody can send, because of a slip."""
    with pytest.raises(ValidationError, match="each key takes visible ASCII"):
        Settings(api_keys=keys)


async def test_samples_behind_a_key_are_private(locked: httpx.AsyncClient) -> None:
    """A shared cache does not hand them on."""
    response = await locked.get("/v1/models/grey@1/sample?seed=7", headers={"Authorization": "Bearer first"})

    assert response.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_probes_are_open(locked: httpx.AsyncClient, path: str) -> None:
    """An orchestrator has no key."""
    assert (await locked.get(path)).status_code == 200
