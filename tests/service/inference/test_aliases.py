"""Aliases of running services: they follow the store, and never mean a version that is not served."""

import shutil
from pathlib import Path

import pytest
import structlog

from model_store import ModelNotFound, ModelVersion, NoDefault, Store
from service.inference.model_set import ModelSet
from service.inference.registry import Registry
from service.inference.store_watch import ALL_GONE

from .test_registry import Events, break_weights, events, make_registry, registry, served

__all__ = ["events", "registry"]  # fixtures

pytestmark = pytest.mark.anyio

GREY_1, GREY_2, GREY_3 = (ModelVersion("grey", number) for number in (1, 2, 3))


def meaning(registry: Registry, reference: str = "grey@stable") -> str:
    """The version that answers requests for a reference."""
    return registry.find(reference).name


def add_version(store: Store) -> ModelVersion:
    """Copy grey@1 as the next version, which takes less time than to publish a model."""
    return store.copy(GREY_1, store)


async def test_alias_is_followed(registry: Registry, store: Store) -> None:
    """Made, moved, rolled back and removed: each refresh reads the store."""
    store.set_alias(GREY_1, "stable")
    add_version(store)
    await registry.refresh()
    assert (meaning(registry), registry.aliases) == ("grey@1", {GREY_1: ["stable"]})

    store.set_alias(GREY_2, "stable")
    await registry.refresh()
    assert (meaning(registry), registry.aliases) == ("grey@2", {GREY_2: ["stable"]})

    store.roll_back("grey", "stable")
    await registry.refresh()
    assert (meaning(registry), registry.warnings) == ("grey@1", [])

    store.remove_alias("grey", "stable")
    await registry.refresh()
    with pytest.raises(ModelNotFound, match=r"No model grey@stable; .*\. stable is not an alias of grey; /v1/models"):
        meaning(registry)
    assert registry.aliases == {}


async def test_alias_means_the_old_version_until_the_new_one_is_loaded(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that arrive while grey@2 is read are answered by grey@1."""
    store.set_alias(GREY_1, "stable")
    await registry.refresh()
    answering: list[str] = []
    load = store.load

    def watched(version: ModelVersion) -> object:
        answering.append(meaning(registry))
        return load(version)

    store.set_alias(add_version(store), "stable")
    monkeypatch.setattr(store, "load", watched)
    await registry.refresh()

    assert [*answering, meaning(registry)] == ["grey@1", "grey@2"]


async def test_alias_of_a_version_that_cannot_be_served_keeps_its_meaning(registry: Registry, store: Store) -> None:
    """A warning says so until the version is mended."""
    store.set_alias(GREY_1, "stable")
    store.set_alias(add_version(store), "stable")
    break_weights(store, GREY_2)
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            await registry.refresh()

    assert meaning(registry) == "grey@1"
    assert registry.warnings == [
        "grey@stable names grey@2, which cannot be served; requests for it get grey@1. Mend that version, or let the "
        "alias name another: python -m model_store alias NAME@VERSION ALIAS."
    ]
    assert [line["event"] for line in lines].count("the store must be mended") == 1

    break_weights(store, GREY_2)
    await registry.refresh()
    assert (meaning(registry), registry.warnings) == ("grey@2", [])


async def test_alias_without_a_version_that_can_be_served_has_the_reason(registry: Registry, store: Store) -> None:
    """The alias has named no other version before. The bare name still means the older version."""
    store.set_alias(add_version(store), "stable")
    break_weights(store, GREY_2)
    await registry.refresh()

    with pytest.raises(
        ModelNotFound, match=r"No model grey@stable; .*\. grey@stable names grey@2\. grey@2: Cannot use"
    ):
        meaning(registry)
    assert meaning(registry, "grey") == "grey@1"
    assert "requests for it get an error (404)" in registry.warnings[0]


async def test_version_that_cannot_be_loaded_now_is_tried_once_in_a_refresh(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is the newest one, and two aliases name it. Each attempt may take minutes."""
    version = add_version(store)
    for alias in ("stable", "canary"):
        store.set_alias(version, alias)
    tried: list[ModelVersion] = []

    def full(version: ModelVersion) -> None:
        tried.append(version)
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store, "load", full)
        await registry.refresh()
    assert tried == [GREY_2]

    await registry.refresh()
    assert meaning(registry, "grey@canary") == "grey@2"


async def test_version_of_an_alias_stays_served_beside_the_newest(store: Store, events: Events) -> None:
    """Otherwise, each publication could take the version of an alias away."""
    registry = make_registry(store, events, versions=1)
    store.set_alias(GREY_1, "stable")
    for _ in range(2):
        add_version(store)
        await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1", "grey@3"]

    store.set_alias(GREY_3, "stable")
    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@3"]


async def test_alias_goes_back_to_a_version_that_is_not_served_any_more(store: Store, events: Events) -> None:
    """The version is loaded again before the alias means it."""
    registry = make_registry(store, events, versions=1)
    store.set_alias(GREY_1, "stable")
    store.set_alias(add_version(store), "stable")
    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@2"]

    store.roll_back("grey", "stable")
    await registry.refresh()
    assert (meaning(registry), meaning(registry, "grey")) == ("grey@1", "grey@2")


async def test_alias_of_a_version_that_was_removed_by_hand_means_the_one_before(
    registry: Registry, store: Store
) -> None:
    """No request fails, and a warning names the missing version."""
    store.set_alias(GREY_1, "stable")
    store.set_alias(add_version(store), "stable")
    await registry.refresh()
    shutil.rmtree(store.folder(GREY_2))
    await registry.refresh()

    assert meaning(registry) == "grey@1"
    assert registry.warnings[0].startswith("grey@stable names grey@2, which cannot be served")


async def test_damaged_aliases_stay_as_they_were(registry: Registry, store: Store) -> None:
    """The warning tells the remedy without the path of the store; versions come and go as before."""
    store.set_alias(GREY_1, "stable")
    await registry.refresh()
    (store.root / ".aliases-grey").write_text("damaged")
    add_version(store)
    await registry.refresh()

    assert (meaning(registry), meaning(registry, "grey")) == ("grey@1", "grey@2")
    (warning,) = registry.warnings
    assert warning.startswith("The file .aliases-grey must hold the aliases of a model, but it is not JSON.")

    (store.root / ".aliases-grey").unlink()
    await registry.refresh()
    assert registry.warnings == []
    with pytest.raises(ModelNotFound):
        meaning(registry)


async def test_aliases_that_were_never_read_have_the_reason(store: Store, events: Events) -> None:
    """The versions of the model are served."""
    (store.root / ".aliases-grey").write_text("damaged")
    registry = make_registry(store, events)
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]
    with pytest.raises(
        ModelNotFound, match=r"No model grey@stable; .*\. The file \.aliases-grey must hold the aliases"
    ):
        meaning(registry)


async def test_aliases_stay_while_the_store_is_empty(registry: Registry, store: Store) -> None:
    """A volume that is not mounted has no aliases either: its versions and what they are called stay."""
    store.set_alias(GREY_1, "stable")
    await registry.refresh()
    store.root.rename(store.root.with_name("elsewhere"))
    Path(store.root).mkdir()
    await registry.refresh()

    assert registry.warnings == [ALL_GONE]
    assert meaning(registry) == "grey@1"


@pytest.mark.parametrize("default", [None, "grey@stable"], ids=["store", "setting"])
async def test_default_that_is_an_alias_is_followed(store: Store, events: Events, default: str | None) -> None:
    """The default of the store, or of the setting."""
    store.set_alias(GREY_1, "stable")
    store.choose_default("grey@stable")
    registry = make_registry(store, events, default)
    await registry.refresh()
    assert str(registry.find(None).version) == "grey@1"

    store.set_alias(add_version(store), "stable")
    await registry.refresh()
    assert str(registry.find(None).version) == "grey@2"


async def test_default_that_is_an_alias_without_a_version_says_why(store: Store, events: Events) -> None:
    """The reason is that of the version; an alias that is not there is not in the store."""
    store.set_alias(add_version(store), "stable")
    break_weights(store, GREY_2)
    reasons = []
    for default in ("grey@stable", "grey@canary"):
        registry = make_registry(store, events, default)
        await registry.refresh()
        reasons.append(str(registry.why_not_ready()))

    assert reasons[0].startswith(
        "The default model grey@stable cannot be served. grey@2: Cannot use the weights grey/2/"
    )
    assert reasons[1].startswith(
        "The default model grey@canary is not in the store, which has colour@1, grey@1, grey@2"
    )


async def test_worker_with_other_aliases_serves_other_models() -> None:
    """Workers switch together, so that a client does not get the old version after the new one."""
    sets = [ModelSet({}, NoDefault([]), aliases) for aliases in ({}, {"grey@stable": GREY_1}, {"grey@stable": GREY_2})]

    assert len({models.number for models in sets}) == 3
