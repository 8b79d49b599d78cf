"""If keys are set, /v1 needs one, and so does every answer that names a model; probes never do."""

import base64
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog
from pydantic import SecretStr, ValidationError

from model_store import Store
from service.app import create_app
from service.http import key_file
from service.http.keys import Keys
from service.settings import Settings
from service.telemetry import logs

from ...process import Process, unharmed
from ..conftest import check_unharmed, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def locked(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A service with two keys."""
    async with running(settings, api_keys="first, second") as (_, client):
        yield client
        await check_unharmed(client, key="first")


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


@pytest.mark.parametrize(
    "credentials", ["user:first", ":first", "first", "first:", "user%40example:second", "us%65r:fir%73t"]
)
async def test_key_in_an_address_opens(locked: httpx.AsyncClient, credentials: str) -> None:
    """A client that takes an address and no headers sends HTTP Basic: the password is the key, or else the user."""
    response = await locked.get(f"http://{credentials}@latentd/v1/sample")

    assert response.status_code == 200


@pytest.mark.parametrize("credentials", ["", ":", "user:", "first:wrong", "wrong:fir", "user:first:"])
async def test_basic_credentials_without_a_right_key_do_not_open(locked: httpx.AsyncClient, credentials: str) -> None:
    """A right user beside a wrong password is not a key."""
    encoded = base64.b64encode(credentials.encode()).decode()
    headers = [{"Authorization": f"Basic {text}"} for text in (encoded, f"{encoded}!", f"é{encoded}", credentials)]
    statuses = [(await locked.get("/v1/sample", headers=encode_all(each))).status_code for each in headers]

    assert statuses == [401, 401, 401, 401]


def encode_all(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes: httpx takes texts of ASCII only."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_one_key_is_one_client_in_either_scheme() -> None:
    """A client does not get a second share of the service by another spelling of its key."""
    keys = Keys([SecretStr("first")])
    basic = [(b"authorization", b"BASIC " + base64.b64encode(b"user:first"))]

    assert keys.admit(basic)
    assert keys.name(basic) == keys.name(BEARER)


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


OPEN = ["/", "/healthz", "/metrics", "/readyz", "/livez", "/docs", "/openapi.json", "/none", "/v1/models/grey/sample"]


@pytest.mark.parametrize("default_model", ["grey", "colour@9"])
async def test_no_name_of_a_model_is_told_without_a_key(settings: Settings, default_model: str) -> None:
    """Neither while all is well, nor when the default model is missing. With a key the names are told."""
    right = {"Authorization": "Bearer first"}
    async with running(settings, api_keys="first", default_model=default_model) as (_, client):
        await client.get("/v1/sample", headers=right)
        without = [await client.get(path, headers=headers) for path in OPEN for headers in ({}, WRONG)]
        told = [await client.get(path, headers=right) for path in ("/", "/healthz", "/metrics")]

    answers = [response.text + str(response.headers) for response in without]
    assert [text for text in answers if re.search(r"(grey|colour)@\d", text)] == []
    assert ["colour@1" in response.text for response in told] == [True, True, True]


async def test_health_without_a_key_is_the_state_alone(settings: Settings) -> None:
    """An orchestrator needs no more."""
    async with running(settings, api_keys="first", default_model="blue") as (_, client):
        health, ready = (await client.get("/healthz")).json(), await client.get("/readyz")

    assert health == {
        "status": "not serving",
        "reason": "No model, or not the default model, can be served; ask with a key for the reason.",
        "warnings": None,
        "device": "cpu",
        "models": None,
        "waiting_images": 0,
    }
    assert (ready.status_code, ready.json()["detail"]) == (503, health["reason"])


async def test_operator_may_open_what_names_the_models(settings: Settings) -> None:
    """A monitor that cannot send a key still reads the metrics."""
    async with running(settings, api_keys="first", open_without_key=True) as (_, client):
        answers = [await client.get(path) for path in ("/", "/healthz", "/metrics")]
        locked = await client.get("/v1/models")

    assert ["colour@1" in answer.text for answer in answers] == [True, True, True]
    assert locked.status_code == 401


async def test_page_asks_for_the_key(locked: httpx.AsyncClient) -> None:
    """A browser sends no key when it opens a page, so the page has a form, whose script gets the page again."""
    asking = (await locked.get("/")).text
    shown = (await locked.get("/", headers={"Authorization": "Bearer first"})).text

    assert ("<form>" in asking, "<article>" in asking) == (True, False)
    assert ("<form>" in shown, "<article>" in shown) == (False, True)
    assert asking.count("<pre>curl -H 'Authorization: Bearer KEY' ") == 1


async def test_key_counts_only_where_it_belongs(locked: httpx.AsyncClient) -> None:
    """Two headers are refused, and so is a key in the query, which proxies write into logs."""
    twice = [("Authorization", "Bearer first"), ("Authorization", "Bearer first")]

    assert (await locked.get("/v1/sample", headers=twice)).status_code == 401
    assert (await locked.get("/v1/sample?api_key=first&key=first&authorization=Bearer+first")).status_code == 401


WRONG = {"Authorization": "Bearer wrong"}
BEARER = [(b"authorization", b"Bearer first")]
OTHER = [(b"authorization", b"bearer second")]

Spoil = Callable[[Path], object]
SPOILT: dict[str, Spoil] = {
    "empty": lambda file: replace(file, ""),
    "comment": lambda file: replace(file, "# no key\n"),
    "two-words": lambda file: replace(file, "two words\n"),
    "not-ascii": lambda file: replace(file, "sch\u00f6n\n"),
    "missing": lambda file: file.unlink(),
    "pipe": lambda file: [step() for step in (file.unlink, partial(os.mkfifo, file))],
    "zeros": lambda file: [step() for step in (file.unlink, partial(file.symlink_to, "/dev/zero"))],
    "too-large": lambda file: replace(file, "# " + "x" * key_file.MAX_BYTES),
    "too-many": lambda file: replace(file, "".join(f"key{number}\n" for number in range(key_file.MAX_KEYS + 1))),
}
EMPTY = {"empty", "comment"}
UNUSABLE = {name: spoil for name, spoil in SPOILT.items() if name not in EMPTY}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a key."""
    file = tmp_path / "keys"
    file.write_text("# of the search team\n\nfirst\n")
    return file


@pytest.fixture
def checked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is checked at each request."""
    monkeypatch.setattr(key_file, "POLL_S", 0.0)


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
@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_keys_stay_valid_while_their_file_is_replaced(file: Path, spoil: Spoil) -> None:
    """A mistake in the file neither locks clients out at once nor lets them in. The corrected file counts again."""
    known = Keys(file=file)
    spoil(file)

    assert known.admit(BEARER)
    assert not known.admit([])
    replace(file, "second\n")
    assert not known.admit(BEARER)
    assert known.admit(OTHER)


@pytest.mark.usefixtures("checked_each_time")
@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_keys_of_an_unusable_file_end(file: Path, spoil: Spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was taken back must not stay valid because of an accident. The same file as before counts again."""
    known = Keys([SecretStr("second")], file)
    spoil(file)
    with structlog.testing.capture_logs() as lines:
        before = known.admit(BEARER)
        monkeypatch.setattr(key_file, "GRACE_S", 0.0)
        after = [known.admit(BEARER) for _ in range(3)]
    others = known.admit(OTHER)
    replace(file, "first\n")

    assert (before, after, others, known.admit(BEARER)) == (True, [False] * 3, True, True)
    assert [line["event"] for line in lines] == ["keys not read", "no keys"]


@pytest.mark.usefixtures("checked_each_time")
@pytest.mark.parametrize("name", EMPTY)
def test_file_without_a_key_admits_no_request(file: Path, name: str) -> None:
    """The operator has taken all keys back. The log says so, once."""
    logs.configure("warning", "text")
    known = Keys(file=file)
    SPOILT[name](file)
    with structlog.testing.capture_logs() as lines:
        admitted = [known.admit(headers) for headers in (BEARER, OTHER, [], BEARER)]

    assert admitted == [False] * 4
    assert known.are_needed
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "no keys")]


@pytest.mark.usefixtures("checked_each_time")
def test_file_is_read_again_though_its_time_and_size_are_kept(file: Path) -> None:
    """`cp -p`, `rsync -t` and `touch -r` keep the time."""
    replace(file, "first!\n")
    known, status = Keys(file=file), file.stat()
    with file.open("r+") as same:
        same.write("second\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert known.admit(OTHER)


@pytest.mark.usefixtures("checked_each_time")
def test_key_is_taken_back_though_no_file_can_be_opened(file: Path, request: pytest.FixtureRequest) -> None:
    """A flood of connections takes all descriptors; one is kept for the file."""
    known = Keys(file=file)
    replace(file, "second\n")
    request.getfixturevalue("full_table")
    with pytest.raises(OSError, match="Too many open files"):
        os.open(os.devnull, os.O_RDONLY)

    assert [known.admit(BEARER), known.admit(OTHER), known.admit(BEARER)] == [False, True, False]


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
    process = Process(store.root, f"--api-keys-file={file}", "--open-without-key")
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
