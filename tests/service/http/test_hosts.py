"""A service without keys on a loopback address answers under its own names only: a page cannot rebind a name to it."""

import httpx
import pytest
from pydantic import ValidationError

from model_store import Store
from service.http.hosts import Hosts
from service.settings import Settings

from ...process import Process
from ..conftest import running
from ..listening.raw import say

pytestmark = pytest.mark.anyio

ANY = "0.0.0.0"  # noqa: S104  # an address of this machine that pages of other sites have used
LOCAL = [
    "localhost", "LOCALHOST:8000", "localhost.", "localhost.:8000", "tasks.localhost:1", "127.0.0.1", "127.0.0.1:80",
    "127.255.1.2:65535", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:8000", "localhost:",
]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", ANY,
    "192.0.2.1:8000", "[::]", "[::ffff:192.0.2.1]", "[2001:db8::1]:8000", "localhost..", "localhost:8000:8000",
    "user@localhost", "localhost/", "local host", "[::1", "::1", "127.1", "", "localhost, evil.example",
]  # fmt: skip


async def status(client: httpx.AsyncClient, host: str, path: str = "/v1/sample") -> int:
    """The status of a request with that Host."""
    return (await client.get(path, headers={"Host": host})).status_code


@pytest.mark.parametrize(("hosts", "expected"), [(LOCAL, 200), (FOREIGN, 421)], ids=["local", "foreign"])
@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
async def test_only_names_of_this_machine_are_answered(
    settings: Settings, address: str, hosts: list[str], expected: int
) -> None:
    """The page and the probes are no exceptions: a page could read them too."""
    async with running(settings, hosts=(), host=address) as (_, client):
        found = {(host, path): await status(client, host, path) for host in hosts for path in ("/v1/models", "/livez")}

    assert {key for key, told in found.items() if told != expected} == set()


async def test_refusal_names_the_setting(settings: Settings) -> None:
    """The host is told as the setting takes it, without a port; a host of odd letters is not repeated."""
    async with running(settings, hosts=()) as (_, client):
        named = await client.get("/", headers={"Host": "evil.example:8000"})
        odd = await client.get("/", headers={"Host": "<script>"})

    assert named.headers["content-type"] == "application/problem+json"
    assert named.json()["detail"] == (
        "The host evil.example is not a name of this service; call it as localhost, or name the host in LATENTD_HOSTS."
    )
    assert "script" not in odd.text


@pytest.mark.parametrize(
    "changed", [{"host": ANY}, {"host": "192.0.2.7"}, {"host": "::"}, {"api_keys": "first"}, {"hosts": "*"}]
)
async def test_any_host_is_answered_where_a_page_gains_nothing(settings: Settings, changed: dict[str, str]) -> None:
    """On a network the names are not known, and a page cannot send a key."""
    async with running(settings, **({"hosts": ()} | changed)) as (_, client):
        assert await status(client, "evil.example", "/readyz") == 200


async def test_named_hosts_are_the_only_ones_anywhere(settings: Settings) -> None:
    """Names of this machine stay: no page has them."""
    async with running(settings, host=ANY, hosts="Example.org, *.example.net, 10.0.0.7") as (_, client):
        hosts = ["example.org:443", "EXAMPLE.org.", "a.b.example.net", "10.0.0.7:8000", "localhost"]
        right = [await status(client, host) for host in hosts]
        wrong = [await status(client, host) for host in ("example.com", "example.net", "a.example.org", "10.0.0.8")]

    assert (right, wrong) == ([200] * 5, [421] * 4)


async def test_address_of_arrival_is_a_host(settings: Settings) -> None:
    """A probe calls a container by its address, and a page cannot have an address as its name."""
    async with running(settings, host=ANY, hosts="example.org") as (app, _):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3:8000") as client:
            arrived, other = await status(client, "10.1.2.3:8000"), await status(client, "10.1.2.4:8000")

    assert (arrived, other) == (200, 421)


async def test_forwarded_host_is_not_believed_instead(settings: Settings) -> None:
    """A page can write X-Forwarded-Host, and its browser's address may be that of a proxy."""
    async with running(settings, hosts=(), forwarded_by="*") as (_, client):
        response = await client.get("/", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"})

    assert response.status_code == 421


@pytest.mark.parametrize(
    "hosts", ["https://example.org", "example.org:8000", "example.org/a", "a.org,", "*.", "a*.org"]
)
def test_hosts_are_names_only(hosts: str) -> None:
    """A host with a port or a scheme would never match."""
    with pytest.raises(ValidationError, match="a host is a name or an address"):
        Settings(hosts=hosts)


async def test_lifespan_passes() -> None:
    """Only requests have hosts."""
    seen = []

    async def behind(scope: object, *_: object) -> None:
        seen.append(scope)

    await Hosts(behind, ())({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # none is used

    assert seen == [{"type": "lifespan"}]


def test_host_in_the_address_counts(started: list[Process], store: Store) -> None:
    """The host of the address replaces the Host header, on a real connection."""
    process = Process(store.root)
    started.append(process)
    asked = {
        b"GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n": b"421",
        b"GET http://localhost:8000/livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n": b"200",
        b"GET /livez HTTP/1.0\r\n\r\n": b"200",
    }

    assert {head: say(process.url, head).split()[1] for head in asked} == asked
