"""Behind reverse proxies every link leads to the service, with any prefix before its addresses."""

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.http.proxies import ClientAddresses, Forwarded
from service.settings import Settings

from ..conftest import running
from ..wire import PNG, picture

pytestmark = pytest.mark.anyio

PUBLIC = "http://example.org/ai/latentd"
FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.org",
    "X-Forwarded-Prefix": "/ai/latentd",
    "X-Forwarded-For": "192.0.2.1",
}


class Proxy(httpx.AsyncBaseTransport):
    """A reverse proxy that forwards the addresses under /ai/latentd, and no others."""

    def __init__(self, app: FastAPI, upstream_path: Callable[[str], str]) -> None:
        self._upstream = httpx.ASGITransport(app)
        self._upstream_path = upstream_path

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Forward a request to the service, with another Host."""
        if not request.url.path.startswith("/ai/latentd/"):
            return httpx.Response(502)
        request.url = request.url.copy_with(path=self._upstream_path(request.url.path))
        request.headers["host"] = "upstream:8000"
        return await self._upstream.handle_async_request(request)


PROXIES = {
    "cuts the prefix off": ({}, lambda path: path.removeprefix("/ai/latentd")),
    "cuts off a prefix that is set": ({"root_path": "/ai/latentd"}, lambda path: path.removeprefix("/ai/latentd")),
    "leaves the prefix": ({"root_path": "/ai/latentd/"}, lambda path: path),
}


@pytest.fixture(params=PROXIES)
async def proxied(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of each kind of proxy."""
    changed, upstream_path = PROXIES[request.param]
    async with (
        running(settings, hosts="upstream", **changed) as (app, _),
        httpx.AsyncClient(transport=Proxy(app, upstream_path)) as it,
    ):
        yield it


@pytest.mark.parametrize("page", ["/", "/docs"])
async def test_every_link_of_a_page_stays_behind_the_prefix(proxied: httpx.AsyncClient, page: str) -> None:
    """The links to pictures, scripts, styles and the OpenAPI work."""
    text = (await proxied.get(PUBLIC + page)).text
    links = re.findall(r'(?:href|src)="([^"]+)"', text) + re.findall(r"url: '([^']+)'", text)
    urls = {urljoin(PUBLIC + page, link.replace("&amp;", "&")) for link in links if not link.startswith("data:")}

    assert len(urls) >= 4
    assert {(await proxied.get(url)).status_code for url in urls} == {200}


async def test_server_of_the_openapi_is_behind_the_prefix(proxied: httpx.AsyncClient) -> None:
    """The server's address is relative to the address of the OpenAPI."""
    (server,) = (await proxied.get(f"{PUBLIC}/openapi.json")).json()["servers"]

    assert urljoin(f"{PUBLIC}/openapi.json", server["url"]).rstrip("/") == PUBLIC


@pytest.mark.parametrize("model", ["", "/models/grey@1"])
async def test_operations_answer_behind_the_prefix(proxied: httpx.AsyncClient, model: str) -> None:
    """The address may name a model or not."""
    encoded = await proxied.post(f"{PUBLIC}/v1{model}/encode", content=picture(), headers=PNG)

    assert encoded.status_code == 200
    assert encoded.headers["x-model"] == "grey@1"


@pytest.mark.parametrize("address", ["/v1/models/", "/v1/models/grey/", "/docs/", "/livez/", "/v1/sample/"])
async def test_slash_at_the_end_is_not_redirected(proxied: httpx.AsyncClient, address: str) -> None:
    """A redirect would name a scheme and a host; the message names the address without the slash."""
    response = await proxied.get(PUBLIC + address)

    assert response.status_code == 404
    assert "leave out the slash at its end: /" in response.json()["detail"]
    assert response.json()["detail"].endswith(f"{address[:-1]}.")


async def test_prefix_alone_is_not_redirected(settings: Settings) -> None:
    """The page's relative links would miss the prefix, so the message tells of the slash at the end."""
    async with running(settings, root_path="/latentd") as (_, client):
        response = await client.get("/latentd")

    assert response.status_code == 404
    assert response.json()["detail"] == "There is nothing at this address; add a slash at its end: /latentd/."


async def test_addresses_of_several_proxies_are_one_list(settings: Settings) -> None:
    """Each proxy may add a line of its own; the client is the last one that is not a proxy."""
    lines = [("X-Forwarded-For", "203.0.113.9, 192.0.2.7"), ("X-Forwarded-For", "10.0.0.2")]
    seen: list[str] = []

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])
        await Response()(scope, receive, send)

    transport = httpx.ASGITransport(Forwarded(behind, ["127.0.0.1", "10.0.0.0/8"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://latentd") as client:
        await client.get("/", headers=lines)

    assert seen == ["192.0.2.7"]


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("10.0.0.1", [b"203.0.113.9, 192.0.2.7", b"10.0.0.2"], "192.0.2.7"),
        ("::ffff:10.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("198.51.100.1", [b"192.0.2.7"], "198.51.100.1"),
        ("10.0.0.1", [b"\xff" * 5000], "unknown"),
        (None, [b"192.0.2.7"], "unknown"),
    ],
)
def test_client_behind_a_trusted_proxy_has_an_address_before_its_request_starts(
    peer: str | None, lines: list[bytes], client: str
) -> None:
    """The service tells it apart from the proxy's other clients. A client that is not trusted cannot choose a name."""
    scope: Scope = {
        "type": "http",
        "client": (peer, 4711) if peer else None,
        "headers": [(b"x-forwarded-for", line) for line in lines],
    }

    assert ClientAddresses(["10.0.0.0/8"])(scope) == client


async def test_addresses_in_messages_carry_the_prefix(settings: Settings) -> None:
    """The prefix is in the address of the docs and in the address without a slash at its end."""
    async with running(settings, root_path="/latentd") as (_, client):
        details = [
            (await client.get(path)).json()["detail"]
            for path in ("/latentd/v2", "/static-offline-docs/none", "/latentd/livez/", "/livez/")
        ]

    assert details == [
        "There is nothing at this address; /latentd/docs lists the addresses that exist.",
        "There is nothing at this address; /latentd/docs lists the addresses that exist.",
        "There is nothing at this address; leave out the slash at its end: /latentd/livez.",
        "There is nothing at this address; leave out the slash at its end: /latentd/livez.",
    ]


@pytest.mark.parametrize("proxies", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "*"])
async def test_trusted_proxy_tells_the_public_address(settings: Settings, proxies: str) -> None:
    """The page's examples can be copied."""
    async with running(settings, forwarded_by=proxies) as (_, client):
        page = (await client.get("/", headers=FORWARDED)).text

    assert ">https://example.org/ai/latentd<" in page


@pytest.mark.parametrize("proxies", ["", "192.0.2.1", "::1"])
async def test_other_clients_cannot_tell_an_address(settings: Settings, proxies: str) -> None:
    """The X-Forwarded headers of other clients are ignored."""
    async with running(settings, forwarded_by=proxies) as (_, client):
        page = (await client.get("/", headers=FORWARDED)).text

    assert ">http://latentd<" in page


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": 'e"><script>'},
        {"X-Forwarded-Host": "user@example.org"},
        {"X-Forwarded-Prefix": "//example.org"},
        {"X-Forwarded-Prefix": "/a b"},
        {"X-Forwarded-Prefix": "/"},
        {"X-Forwarded-Proto": "javascript"},
    ],
)
async def test_impossible_forwarded_value_is_ignored(settings: Settings, headers: dict[str, str]) -> None:
    """The page shows the address of the request itself."""
    async with running(settings, forwarded_by="*") as (_, client):
        page = (await client.get("/", headers=headers)).text

    assert ">http://latentd<" in page


async def test_ipv4_proxy_is_known_on_a_socket_of_ipv6(settings: Settings) -> None:
    """Such a socket writes 127.0.0.1 as ::ffff:127.0.0.1."""
    async with running(settings, forwarded_by="127.0.0.1") as (app, _):
        transport = httpx.ASGITransport(app, client=("::ffff:127.0.0.1", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://latentd") as client:
            page = (await client.get("/", headers=FORWARDED)).text

    assert ">https://example.org/ai/latentd<" in page


@pytest.mark.parametrize("prefix", ["latentd", "/a b", "//a", "/a/../b%20", "http://example.org/a", "/v1", "/v1/a"])
def test_impossible_prefix_is_refused(prefix: str) -> None:
    """A prefix must be a path, and must not be the beginning of the service's own addresses."""
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=prefix)


@pytest.mark.parametrize("proxies", ["proxy.example.org", "10.0.0.1/8", "127.0.0.1,*", "127.0.0.1,"])
def test_proxy_that_is_not_an_address_is_refused(proxies: str) -> None:
    """A host name would need a DNS request for each request."""
    with pytest.raises(ValueError, match="forwarded_by"):
        Settings(forwarded_by=proxies)


async def test_no_address_of_the_service_may_be_its_prefix(app: FastAPI, client: httpx.AsyncClient) -> None:
    """The first part of each address is refused as a prefix."""
    addresses = {*app.openapi()["paths"], "/docs", "/openapi.json", "/static-offline-docs"}

    for first in {address.split("/")[1] for address in addresses}:
        with pytest.raises(ValueError, match="choose another prefix"):
            Settings(root_path=f"/{first}")
