"""Properties of all answers: none is an error of the service's own, and problems are short.

Each property is a function of a subject (the service in process, or a reader) and of inputs that Hypothesis makes up.
"""

from __future__ import annotations

import json
import re
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import hypothesis.strategies as st
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from hypothesis import given

from model_store import Card, ModelVersion, Store, StoreError
from model_store.card import parse_card
from model_store.weights import expected, filled
from service.app import create_app
from service.errors import ServiceError
from service.formats import pictures
from service.formats.target import Target
from service.settings import Settings
from service.telemetry import logs

from ..conftest import GREY, make_model
from . import good_requests
from .search import search

LONGEST_PROBLEM = 1024  # bytes
OPERATIONS = ("encode", "decode", "reconstruct", "score", "interpolate")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=30,
)
NUMBERS = st.floats(width=32) | st.integers(-(10**30), 10**30) | st.floats()
BODIES = (
    st.fixed_dictionaries({"latents": st.lists(st.lists(NUMBERS, max_size=4), max_size=4)})
    | st.fixed_dictionaries({"images": st.lists(st.text(max_size=60), max_size=4)})
    | st.dictionaries(st.sampled_from(("images", "latents", "image", "n")), JSON, max_size=3)
    | JSON
)
HEADERS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80)
QUERIES = st.dictionaries(
    st.sampled_from(("n", "seed", "temperature", "format", "dims", "steps", "span", "latents", "x"))
    | st.text(max_size=8),
    st.text(max_size=20) | st.integers().map(str) | st.floats().map(str),
    max_size=4,
)


Ask = Callable[..., httpx.Response]


class Subject(NamedTuple):
    """The service in process, a folder for files, and a good card and weights to mutate."""

    ask: Ask
    card: Card
    card_text: bytes
    weights: bytes


@contextmanager
def open_subject(folder: Path) -> Iterator[Subject]:
    """A subject with its files in a folder, and with small limits."""
    store = Store(folder / "store")
    version = store.publish("grey", make_model(GREY))
    files = store.folder(version)
    settings = Settings(
        store=store.root,
        cache=folder / "cache",
        hosts=("latentd",),
        device="cpu",
        log_level="error",
        max_pixels=10_000,
        max_request_pixels=20_000,
        max_images_per_request=16,
        queue_images=100,
    )
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    with _asked(app) as ask:
        while ask("GET", "/readyz").is_error:
            time.sleep(0.01)
        yield Subject(
            ask, store.card(version), (files / "card.json").read_bytes(),
            (files / "weights.safetensors").read_bytes(),
        )  # fmt: skip


@contextmanager
def _asked(app: FastAPI) -> Iterator[Ask]:
    """A function that asks an app; the app runs in a thread, since Hypothesis does not await."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(httpx.AsyncClient(transport=transport, base_url="http://latentd")) as client,
    ):
        yield lambda method, path, **options: portal.call(partial(client.request, method, path, **options))


@st.composite
def spoilt(draw: st.DrawFn, goods: tuple[bytes, ...]) -> bytes:
    """A good content, changed in a few places."""
    content = bytearray(draw(st.sampled_from(goods)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 12))] = draw(st.binary(max_size=12))
    return bytes(content)


def check(answer: httpx.Response) -> None:
    """Check that an answer is right, or is a short error of the client's, without a traceback."""
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert len(answer.content) < LONGEST_PROBLEM
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.content)["status"] == answer.status_code


def json_body(subject: Subject, operation: str, body: Any) -> None:
    """JSON of any shape is answered."""
    content = json.dumps(body).encode()
    check(subject.ask("POST", f"/v1/{operation}", content=content, headers={"Content-Type": "application/json"}))


def spoilt_body(subject: Subject, operation: str, of: tuple[str, bytes]) -> None:
    """A mutated body with the Content-Type of the good one is answered."""
    content_type, body = of
    check(subject.ask("POST", f"/v1/{operation}?resize=cover", content=body, headers={"Content-Type": content_type}))


def query(subject: Subject, operation: str, parameters: dict[str, str]) -> None:
    """Query parameters of any name and value are answered."""
    check(subject.ask("GET", f"/v1/{operation}", params=parameters))


def headers(subject: Subject, accept: str, tag: str, given_id: str) -> None:
    """Headers with any text are answered."""
    values = {"Accept": accept, "If-None-Match": tag, "X-Request-Id": given_id, "Authorization": accept, "Origin": tag}
    answer = subject.ask(
        "GET", "/v1/sample?seed=7", headers={name: text.encode("latin-1") for name, text in values.items()}
    )
    check(answer)
    assert set(answer.headers["x-request-id"]) <= {*string.ascii_letters, *string.digits, "-", "_"}


def model_name(subject: Subject, name: str) -> None:
    """A model's name of any text is answered."""
    check(subject.ask("GET", "/v1/models/" + "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))))


def card_reader(subject: Subject, text: bytes) -> None:
    """A mutated card is read, or refused with a StoreError."""
    try:
        parse_card(Path("card.json"), text)
    except StoreError:
        return


def weights_reader(subject: Subject, content: bytes) -> None:
    """Weights are the ones of the card, or refused with a StoreError."""
    path = Path("weights.safetensors")
    try:
        filled(expected(path, subject.card), path, content, subject.card)
    except StoreError:
        return
    assert content == subject.weights


def picture_reader(subject: Subject, content: bytes) -> None:
    """A mutated picture is read, or refused with an error of our own, not one of Pillow's."""
    target = Target(ModelVersion("grey", 1), (1, 8, 8), "cover", 10_000, 10_000)
    try:
        (pixels,) = pictures.decode(pictures.inspect_all([content], target), target)
    except ServiceError:
        return
    assert pixels.shape == (1, 1, 8, 8)


def _of_type(bodies: dict[bytes, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.one_of(
        *(st.tuples(st.just(kind.decode()), spoilt((body,)) | st.binary(max_size=200)) for kind, body in bodies.items())
    )


_POSTED = st.sampled_from(OPERATIONS)
Strategies = Callable[[Subject], dict[str, st.SearchStrategy[Any]]]

PROPERTIES: dict[Callable[..., None], Strategies] = {
    json_body: lambda _: {"operation": _POSTED, "body": BODIES},
    spoilt_body: lambda _: {
        "operation": _POSTED, "of": _of_type(good_requests.image_bodies()) | _of_type(good_requests.latent_bodies())},
    query: lambda _: {"operation": st.sampled_from(("sample", "traverse")), "parameters": QUERIES},
    headers: lambda _: {"accept": HEADERS, "tag": HEADERS, "given_id": HEADERS},
    model_name: lambda _: {"name": st.text(min_size=1, max_size=20)},
    card_reader: lambda subject: {"text": spoilt((subject.card_text,)) | st.binary(max_size=200)},
    weights_reader: lambda subject: {"content": spoilt((subject.weights,)) | st.just(subject.weights)},
    picture_reader: lambda _: {"content": spoilt(good_requests.pictures()) | st.binary(max_size=200)},
}  # fmt: skip


def hold(prop: Callable[..., None], subject: Subject, examples: int) -> int:
    """Let Hypothesis look for an example that breaks a property; return the number of examples tried.

    Raises:
        AssertionError, or another error: the property does not hold; the error has the smallest example.
    """
    tried = 0

    @search(examples)
    @given(**PROPERTIES[prop](subject))
    def holds(**made_up: Any) -> None:
        nonlocal tried
        tried += 1
        prop(subject, **made_up)

    holds()
    _check_unharmed(subject)
    return tried


def _check_unharmed(subject: Subject) -> None:
    """Check that the service is ready, that no other request is under way, and that no images wait."""
    metrics = subject.ask("GET", "/metrics").text
    assert "latentd_requests_in_flight 1.0" in metrics
    assert set(re.findall(r"(?m)^latentd_queue_images\{.*\} (\S+)$", metrics)) <= {"0.0"}
    assert subject.ask("GET", "/readyz").status_code == 200
