"""Pages of other sites cannot make a service without keys work; its own pages, named origins and programs can."""

import httpx
import pytest

from service.settings import Settings

from ..conftest import running
from ..wire import PNG, picture

pytestmark = pytest.mark.anyio

OURS = "https://example.org"
EVIL = "https://evil.example"
VISIT = {
    "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1",
}  # fmt: skip

FOREIGN = {
    "a picture": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "a picture with a page": {"Sec-Fetch-Site": "cross-site", "Referer": f"{EVIL}/a/b"},
    "a script": {"Sec-Fetch-Site": "cross-site", "Origin": EVIL},
    "a window that a script opens again and again": {**VISIT, "Sec-Fetch-User": ""},
    "a page that is fetched ahead": VISIT | {"Sec-Purpose": "prefetch;prerender"},
    "a frame": VISIT | {"Sec-Fetch-Dest": "iframe"},
    "an old browser": {"Origin": EVIL},
    "a sandbox": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "an old browser's sandbox": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://latentd:3000", "Sec-Fetch-Site": "same-site"},
    "a name that begins alike": {"Origin": "http://latentd.evil.example"},
    "a name that ends alike": {"Origin": "http://evil-latentd"},
    "a new word": {"Sec-Fetch-Site": "next-door"},
}
OWN = {
    "a program": {},
    "the own page": {"Sec-Fetch-Site": "same-origin", "Origin": "http://latentd"},
    "the own page behind a proxy": {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
    "the own page in an old browser": {"Origin": "http://latentd"},
    "the own page behind a proxy with TLS": {"Origin": "https://LATENTD"},
    "an address that was typed": {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    "a picture of the same site": {"Sec-Fetch-Site": "same-site"},
    "a named origin": {"Sec-Fetch-Site": "cross-site", "Origin": OURS},
    "a picture on a page of a named origin": {"Sec-Fetch-Site": "cross-site", "Referer": f"{OURS}/a"},
}


async def statuses(settings: Settings, headers: dict[str, str], **changed: str) -> list[int]:
    """The statuses of a sample and of an encoded picture that are asked for with these headers."""
    async with running(settings, cors_origins=OURS, **changed) as (_, client):
        sample = await client.get("/v1/sample", headers=headers)
        encoded = await client.post("/v1/encode", content=picture(), headers=PNG | headers)
    return [sample.status_code, encoded.status_code]


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"Origin": f"{EVIL}:8080"}, f"A page of another site ({EVIL}:8080) may"),
        (FOREIGN["a picture with a page"], f"A page of another site ({EVIL}) may"),
        (FOREIGN["a sandbox"], "A page of another site may"),
        ({"Origin": "http://<script>"}, "A page of another site may"),
    ],
)
async def test_refusal_names_the_origin(settings: Settings, headers: dict[str, str], shown: str) -> None:
    """The operator can copy the origin into the setting; odd letters are not repeated."""
    async with running(settings) as (_, client):
        refusal = await client.get("/v1/sample", headers=headers)

    assert refusal.json()["detail"] == (
        f"{shown} not use this service; name the page's origin in LATENTD_CORS_ORIGINS, such as https://example.org. "
        "A page that is opened from a file has none: serve it over HTTP."
    )


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_page_of_another_site_is_refused(settings: Settings, headers: dict[str, str]) -> None:
    """The page could not read the answers, but the service would compute them."""
    assert await statuses(settings, headers) == [403, 403]


@pytest.mark.parametrize("headers", OWN.values(), ids=OWN)
async def test_own_pages_named_origins_and_programs_are_answered(settings: Settings, headers: dict[str, str]) -> None:
    """Proxies may change the Host, so what the browser says of the site comes first."""
    assert await statuses(settings, headers) == [200, 200]


async def test_link_on_another_site_may_be_followed(settings: Settings) -> None:
    """A person sees the answer. A form that posts is not a link."""
    assert await statuses(settings, VISIT) == [200, 403]


async def test_key_is_enough(settings: Settings) -> None:
    """A page of another site has no key, so requests with a key are not judged by their site."""
    headers = FOREIGN["a script"] | {"Authorization": "Bearer first"}

    assert await statuses(settings, headers, api_keys="first") == [200, 200]


async def test_refusal_is_a_problem_that_names_the_setting(client: httpx.AsyncClient) -> None:
    """The operator of the page finds it in the browser's tools."""
    response = await client.get("/v1/sample", headers=FOREIGN["a script"])

    assert response.headers["content-type"] == "application/problem+json"
    assert "LATENTD_CORS_ORIGINS" in response.json()["detail"]


async def test_forwarded_host_is_the_own_one(settings: Settings) -> None:
    """Behind a proxy the page's origin has the proxy's name."""
    headers = {"Origin": "https://public.example", "X-Forwarded-Host": "public.example"}

    assert await statuses(settings, headers, forwarded_by="*") == [200, 200]
    assert await statuses(settings, headers) == [403, 403]
