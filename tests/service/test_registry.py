"""The served models, in step with the store: new versions appear, broken ones do not, nobody is left without answer."""

import asyncio
from functools import partial

import pytest
import structlog

from model_store import InvalidName, ModelNotFound, ModelVersion, Store
from model_store.vae.device import choose_device
from service.errors import Starting
from service.inference.devices import Device
from service.inference.engine import Engine
from service.inference.limits import Limits
from service.inference.loader import Loader
from service.inference.registry import Registry
from service.inference.warm_up_cache import WarmUpCache
from service.timings import Timings

from ..conftest import GREY, make_model
from ..model_store.test_verify import flip_byte, rewrite_card

pytestmark = pytest.mark.anyio


class Events:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.refused: list[str] = []
        self.left: list[str] = []

    def batch_computed(self, operation: str, images: int) -> None:
        self.batches.append((operation, images))

    def queue_changed(self, model: str, images: int) -> None:
        pass

    def version_refused(self, name: str) -> None:
        self.refused.append(name)

    def version_left(self, model: str) -> None:
        self.left.append(model)

    def out_of_memory(self) -> None:
        pass


@pytest.fixture
def events() -> Events:
    """Nothing has happened yet."""
    return Events()


def make_registry(store: Store, events: Events, default_model: str | None = None, versions: int = 3) -> Registry:
    """Small batches on the CPU."""
    cache = WarmUpCache(store.root.parent / "cache")
    loader = Loader(store, Device(choose_device("cpu")), events, cache, max_batch_images=4, queue_images=8)
    return Registry(loader, events, default_model=default_model, versions_per_model=versions)


@pytest.fixture
async def registry(store: Store, events: Events) -> Registry:
    """A registry that has read the store."""
    registry = make_registry(store, events)
    await registry.refresh()
    return registry


def served(registry: Registry) -> list[str]:
    """Names and versions."""
    return [str(model.version) for model in registry.served]


def break_weights(store: Store, version: ModelVersion) -> None:
    """Change a byte of a published version."""
    flip_byte(store.folder(version) / "weights.safetensors")


async def test_every_model_of_the_store_is_served(registry: Registry) -> None:
    """Several at once."""
    assert served(registry) == ["colour@1", "grey@1"]


async def test_new_version_is_served_and_the_old_one_too(registry: Registry, store: Store) -> None:
    """The bare name means the new one, a pinned one stays."""
    store.publish("grey", make_model(seed=1))
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@2"
    assert str(registry.find("grey@1").version) == "grey@1"


async def test_only_the_newest_versions_are_served(store: Store, events: Events) -> None:
    """As many as the setting says."""
    registry = make_registry(store, events, versions=2)
    for _ in range(3):
        store.publish("grey", make_model())
        await registry.refresh()

    assert served(registry) == ["colour@1", "grey@3", "grey@4"]


async def test_version_has_left_when_those_who_found_it_were_answered(store: Store, events: Events) -> None:
    """That is by the next look, and is told once."""
    registry = make_registry(store, events, versions=1)
    await registry.refresh()
    store.publish("grey", make_model())
    await registry.refresh()
    assert events.left == []

    await registry.refresh()
    await registry.refresh()

    assert events.left == ["grey@1"]


async def test_version_has_not_left_while_a_request_has_it(store: Store, events: Events) -> None:
    """However often the store is looked at: what is counted of it later would be there for ever."""
    registry = make_registry(store, events, versions=1)
    await registry.refresh()
    model = registry.find("grey")
    store.publish("grey", make_model())
    for _ in range(3):
        await registry.refresh()
    assert events.left == []

    del model
    await registry.refresh()

    assert events.left == ["grey@1"]


async def test_version_that_came_back_has_not_left(store: Store, events: Events) -> None:
    """What is counted of it goes on."""
    registry = make_registry(store, events)
    await registry.refresh()
    folder = store.folder(ModelVersion("grey", 1))
    for source, target in ((folder, store.root / "away"), (store.root / "away", folder)):
        source.rename(target)
        await registry.refresh()

    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]
    assert events.left == []


async def test_looks_at_the_store_wait_for_each_other(
    store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once would read a version twice, and the second would take the place of the first."""
    registry = make_registry(store, events)
    loaded: list[str] = []
    load = store.load
    monkeypatch.setattr(store, "load", lambda version: (loaded.append(str(version)), load(version))[1])

    await asyncio.gather(registry.refresh(), registry.refresh())

    assert sorted(loaded) == ["colour@1", "grey@1"]


async def test_version_whose_files_cannot_be_looked_at_is_refused_alone(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be closed to us; as soon as it is opened, it is served."""

    def closed(version: ModelVersion) -> None:
        raise PermissionError(13, "Permission denied")

    version = store.publish("grey", make_model())
    with monkeypatch.context() as patch:
        patch.setattr(store, "fingerprint", closed)
        await registry.refresh()
    assert registry.refused == {version: "[Errno 13] Permission denied"}
    assert served(registry) == ["colour@1", "grey@1"]

    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1", "grey@2"]


async def test_broken_version_is_refused_once_and_the_old_one_stays(
    registry: Registry, store: Store, events: Events
) -> None:
    """Counted once, however often the store is looked at."""
    break_weights(store, store.publish("grey", make_model()))
    await registry.refresh()
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@1"
    assert events.refused == ["grey"]


async def test_good_version_after_a_broken_one_is_served(registry: Registry, store: Store) -> None:
    """One bad publication does not stop the next."""
    break_weights(store, store.publish("grey", make_model()))
    await registry.refresh()
    store.publish("grey", make_model())
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1", "grey@3"]


async def test_refused_version_is_served_when_it_was_mended(registry: Registry, store: Store) -> None:
    """It is looked at again when its files change."""
    version = store.publish("grey", make_model())
    break_weights(store, version)
    await registry.refresh()
    break_weights(store, version)
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@2"


async def test_refusal_that_may_pass_is_counted_once_and_tried_again(
    registry: Registry, store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full table of files says nothing about the model."""

    def full(version: ModelVersion) -> None:
        raise OSError(24, "Too many open files")

    version = store.publish("grey", make_model())
    with monkeypatch.context() as patch:
        patch.setattr(store, "load", full)
        await registry.refresh()
        await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1"]

    await registry.refresh()

    assert str(registry.find("grey").version) == str(version)
    assert events.refused == ["grey"]


async def test_removed_version_is_no_longer_found_but_still_answers_who_found_it(
    registry: Registry, store: Store
) -> None:
    """A request that is under way loses nothing."""
    model = registry.find("colour")
    store.folder(model.version).rename(store.root / "away")
    await registry.refresh()

    with pytest.raises(ModelNotFound):
        registry.find("colour")
    samples = await Engine(registry, Limits(images=8, pixels=10_000, draws=1)).sample(model, 2, Timings(), seed=1)
    assert samples.images.shape == (2, 3, 8, 8)


async def test_store_that_went_away_leaves_everything_served(registry: Registry, store: Store) -> None:
    """A volume may be unmounted for a moment."""
    store.root.rename(store.root.with_name("elsewhere"))

    await registry.keep(every_s=0)

    assert served(registry) == ["colour@1", "grey@1"]


async def test_look_that_fails_unexpectedly_is_logged(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the last: a service that looks no more would serve old models for ever, and say nothing."""

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(store, "versions", fail)
    with structlog.testing.capture_logs() as logged:
        await registry.keep(every_s=0)

    assert [(line["event"], line["log_level"]) for line in logged] == [("store cannot be read", "error")]


async def test_store_that_was_not_read_yet_is_starting(store: Store, events: Events) -> None:
    """Not: there is no such model."""
    registry = make_registry(store, events)

    with pytest.raises(Starting):
        registry.find("grey")
    assert not registry.is_ready


@pytest.mark.parametrize(
    ("default", "found"),
    [(None, "colour@1"), ("grey", "grey@1"), ("grey@1", "grey@1")],
    ids=["first", "name", "pinned"],
)
async def test_default_model_is_the_setting_or_the_first(
    store: Store, events: Events, default: str | None, found: str
) -> None:
    """What /v1/encode means."""
    registry = make_registry(store, events, default)
    await registry.refresh()

    assert str(registry.find(None).version) == found


async def test_further_model_does_not_become_the_default(store: Store, events: Events) -> None:
    """Whatever its name: the default is the model that was published first, as far as its cards can be read."""
    for name, day in (("grey", "2019-01-01"), ("colour", "2020-01-01")):
        rewrite_card(store, partial(dict.update, created=f"{day}T00:00:00Z"), ModelVersion(name, 1))
    store.publish("grey", make_model(GREY))
    registry = make_registry(store, events)
    await registry.refresh()
    assert registry.find(None).version.name == "grey"

    store.publish("aaa", make_model(GREY))
    await registry.refresh()
    assert registry.find(None).version.name == "grey"

    rewrite_card(store, partial(dict.update, format=99))
    await registry.refresh()
    assert registry.find(None).version.name == "colour"


async def test_card_that_breaks_while_its_model_is_served_keeps_nothing_else_from_changing(
    store: Store, events: Events
) -> None:
    """The model answers from memory, and what is gone from the store is no longer served."""
    registry = make_registry(store, events)
    await registry.refresh()
    rewrite_card(store, partial(dict.update, format=99))
    store.folder(ModelVersion("colour", 1)).rename(store.root / "away")

    await registry.refresh()

    assert [str(served.version) for served in registry.served] == ["grey@1"]
    assert registry.find(None).version.name == "grey"


async def test_registry_without_its_default_model_is_not_ready(store: Store, events: Events) -> None:
    """The others are served all the same."""
    registry = make_registry(store, events, "blue")
    await registry.refresh()

    assert not registry.is_ready
    assert str(registry.find("grey").version) == "grey@1"


@pytest.mark.parametrize("reference", ["../grey", "grey@", "a/b", "\0", "grey@1@1"])
async def test_reference_that_is_no_name_is_refused(registry: Registry, reference: str) -> None:
    """It never reaches a file system."""
    with pytest.raises(InvalidName):
        registry.find(reference)
