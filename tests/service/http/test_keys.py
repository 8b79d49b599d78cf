"""If keys are set, /v1 needs one; probes never do."""

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from model_store import Store
from service.app import create_app
from service.http import keys
from service.http.keys import Keys
from service.settings import Settings

from ...process import Process, unharmed
from ..conftest import check_unharmed, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def locked(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A service with two keys."""
    async with running(settings, api_keys="first, second") as (_, client):
        yield client
        await check_unharmed(client)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer fir", "Bearer first2", "Basic first", "first", "Bearer é"],
)
async def test_without_a_right_key_there_is_no_answer(locked: httpx.AsyncClient, header: str | None) -> None:
    """The answer is 401 with the scheme, also for models that do not exist, so that clients cannot search for them."""
    headers = [] if header is None else [(b"Authorization", header.encode())]
    responses = [await locked.get(path, headers=headers) for path in ("/v1/sample", "/v1/models", "/v1/models/blue")]

    assert [response.status_code for response in responses] == [401, 401, 401]
    assert responses[0].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["first", "second"])
async def test_any_of_the_keys_opens(locked: httpx.AsyncClient, key: str) -> None:
    """A key can be replaced while the other still works."""
    response = await locked.get("/v1/sample", headers={"Authorization": f"Bearer {key}"})

    assert response.status_code == 200


@pytest.mark.parametrize("keys", [",", " ", "a,,b", "a b", "é", "a,"])
def test_malformed_keys_are_refused(keys: str) -> None:
    """A typing mistake never opens the service, or gives it a key that no client can send."""
    with pytest.raises(ValidationError, match="a key has visible ASCII"):
        Settings(api_keys=keys)


async def test_samples_behind_a_key_are_private(locked: httpx.AsyncClient) -> None:
    """A shared cache must not give them to other clients."""
    response = await locked.get("/v1/models/grey@1/sample?seed=7", headers={"Authorization": "Bearer first"})

    assert response.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_probes_are_open(locked: httpx.AsyncClient, path: str) -> None:
    """An orchestrator has no key."""
    assert (await locked.get(path)).status_code == 200


async def test_metrics_are_open_unless_they_are_to_have_a_key(settings: Settings) -> None:
    """An operator may want to hide which models are served, and how often."""
    statuses = []
    for need_key in (False, True):
        async with running(settings, api_keys="first", metrics_need_key=need_key) as (_, client):
            headers = {"Authorization": "Bearer first"}
            statuses.append([(await client.get("/metrics", headers=given)).status_code for given in ({}, headers)])

    assert statuses == [[200, 200], [401, 200]]


def test_metrics_cannot_need_a_key_that_does_not_exist(settings: Settings) -> None:
    """A monitor could never read them."""
    with pytest.raises(ValueError, match="metrics_need_key: there is no key"):
        create_app(settings.model_copy(update={"metrics_need_key": True}))


async def test_key_counts_only_where_it_belongs(locked: httpx.AsyncClient) -> None:
    """Two headers are refused, and so is a key in the query, which proxies write into logs."""
    twice = [("Authorization", "Bearer first"), ("Authorization", "Bearer first")]

    assert (await locked.get("/v1/sample", headers=twice)).status_code == 401
    assert (await locked.get("/v1/sample?api_key=first&key=first&authorization=Bearer+first")).status_code == 401


BEARER = [(b"authorization", b"Bearer first")]
OTHER = [(b"authorization", b"bearer second")]

Spoil = Callable[[Path], object]
SPOILT: dict[str, Spoil] = {
    "empty": lambda file: replace(file, ""),
    "comment": lambda file: replace(file, "# no key\n"),
    "two-words": lambda file: replace(file, "two words\n"),
    "not-ascii": lambda file: replace(file, "sch\u00f6n\n"),
    "missing": lambda file: file.unlink(),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a key."""
    file = tmp_path / "keys"
    file.write_text("# of the search team\n\nfirst\n")
    return file


@pytest.fixture
def checked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is checked at each request."""
    monkeypatch.setattr(keys, "POLL_S", 0.0)


@pytest.mark.usefixtures("checked_each_time")
def test_keys_are_exchanged_while_the_service_runs(file: Path) -> None:
    """Both keys are valid for a while, then only the new key."""
    known = Keys(file=file)
    seen = [(known.admit(BEARER), known.admit(OTHER))]
    for content in ("first\nsecond\n", "second\n"):
        replace(file, content)
        seen.append((known.admit(BEARER), known.admit(OTHER)))

    assert seen == [(True, False), (True, True), (False, True)]


@pytest.mark.usefixtures("checked_each_time")
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_keys_stay_valid_when_their_file_is_spoilt(file: Path, spoil: Spoil) -> None:
    """A mistake in the file neither locks clients out nor lets them in. The corrected file counts again."""
    known = Keys(file=file)
    spoil(file)

    assert known.admit(BEARER)
    assert not known.admit([])
    replace(file, "second\n")
    assert not known.admit(BEARER)
    assert known.admit(OTHER)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_service_does_not_start_with_a_file_that_is_spoilt(file: Path, settings: Settings, spoil: Spoil) -> None:
    """The service would be open to every client, or closed to every client."""
    spoil(file)

    with pytest.raises(ValueError, match="key"):
        create_app(settings.model_copy(update={"api_keys_file": file}))


def test_keys_of_settings_and_file_are_both_good(file: Path) -> None:
    """A person may have a key in the settings, while the others are a mounted secret."""
    known = Keys([SecretStr("second")], file)

    assert known.admit(BEARER)
    assert known.admit(OTHER)
    assert not Keys().are_needed


def test_file_of_a_running_service_is_exchanged(file: Path, started: list[Process], store: Store) -> None:
    """The new key becomes valid and the old key invalid, and no restart is needed."""
    process = Process(store.root, f"--api-keys-file={file}")
    started.append(process)
    process.wait_for("ready")
    before = [status(process, key) for key in ("first", "second")]
    replace(file, "second\n")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and status(process, "first") != 401:
        time.sleep(0.1)

    assert before == [200, 401]
    assert [status(process, key) for key in ("first", "second")] == [401, 200]
    assert unharmed(process) == []


def status(process: Process, key: str) -> int:
    """The status of a sample that is requested with a key."""
    return httpx.get(f"{process.url}/v1/sample", headers={"Authorization": f"Bearer {key}"}).status_code


def replace(file: Path, content: str) -> None:
    """Replace the file by another under the same name, as orchestrators do."""
    fresh = file.with_name("fresh")
    fresh.write_text(content, encoding="utf-8")
    os.replace(fresh, file)
