"""The served models follow the store: new versions appear, broken versions do not, and every request is answered."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch

from model_store import (
    Calibration,
    InvalidName,
    ModelNotFound,
    ModelVersion,
    ScoreQuantiles,
    Store,
    StoredModel,
)
from model_store.vae.device import choose_device
from service.compute.batch_plan import BatchPlans
from service.compute.device import Device
from service.compute.plan_cache import PlanCache
from service.compute.runner import Runner
from service.errors import AnswerMemoryFull, NoDefaultModel, NotServing, Starting
from service.inference import loader as loading
from service.inference.load_attempts import LoadAttempts
from service.inference.loader import Loader
from service.inference.registry import Registry
from service.inference.store_watch import ALL_GONE
from service.memory import Memory
from service.operations.limits import Limits
from service.operations.sample import sample
from service.operations.session import Session
from service.telemetry.timings import Timings

from ...conftest import make_model
from ...model_store.test_verify import flip_byte, rewrite_card
from .test_load_attempts import die

pytestmark = pytest.mark.anyio


class Events:
    """Metrics that record their calls."""

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

    def images_recomputed(self, model: str, images: int) -> None:
        """The images are not counted."""

    def out_of_memory(self) -> None:
        pass


@pytest.fixture
def events() -> Events:
    """An empty record."""
    return Events()


def make_registry(store: Store, events: Events, default_model: str | None = None, versions: int = 3) -> Registry:
    """A registry with small batches on the CPU."""
    folder = store.root.parent / "cache"
    device, cache, attempts = Device(choose_device("cpu")), PlanCache(folder), LoadAttempts(folder)
    loader = Loader(store, device, events, cache, attempts, max_batch_images=4, queue_images=8)
    return Registry(loader, events, default_model=default_model, versions_per_model=versions)


@pytest.fixture
async def registry(store: Store, events: Events) -> Registry:
    """A registry that has read the store."""
    registry = make_registry(store, events)
    await registry.refresh()
    return registry


def served(registry: Registry) -> list[str]:
    """The names and versions of the served models."""
    return [str(model.version) for model in registry.served]


def break_weights(store: Store, version: ModelVersion) -> None:
    """Change a byte of a published version."""
    flip_byte(store.folder(version) / "weights.safetensors")


async def test_every_model_of_the_store_is_served(registry: Registry) -> None:
    """The store has two models."""
    assert served(registry) == ["colour@1", "grey@1"]


async def test_memory_of_the_load_and_of_the_warm_up_is_given_back(
    store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    warm_up = Runner.warm_up

    async def noted(runner: Runner, known: BatchPlans | None = None) -> BatchPlans:
        done.append("warm-up")
        return await warm_up(runner, known)

    monkeypatch.setattr(Runner, "warm_up", noted)
    monkeypatch.setattr(loading, "return_freed_memory", lambda: done.append("given back"))

    await make_registry(store, events).refresh()

    assert done == ["warm-up", "given back"] * 2


async def test_new_version_is_served_and_the_old_one_too(registry: Registry, store: Store) -> None:
    """The name alone means the new version; `name@1` still means the old one."""
    store.publish("grey", make_model(seed=1))
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@2"
    assert str(registry.find("grey@1").version) == "grey@1"


async def test_new_versions_are_switched_to_at_one_moment(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one of them is still loaded, the older versions answer."""
    answering: list[str] = []
    load = store.load

    def watched(version: ModelVersion) -> StoredModel:
        answering.extend(registry.find(name).name for name in ("colour", "grey"))
        return load(version)

    monkeypatch.setattr(store, "load", watched)
    for name in ("colour", "grey"):
        store.publish(name, make_model())
    await registry.refresh()

    assert answering == ["colour@1", "grey@1"] * 2
    assert [registry.find(name).name for name in ("colour", "grey")] == ["colour@2", "grey@2"]


async def test_only_the_newest_versions_are_served(store: Store, events: Events) -> None:
    """The setting says how many."""
    registry = make_registry(store, events, versions=2)
    for _ in range(3):
        store.publish("grey", make_model())
        await registry.refresh()

    assert served(registry) == ["colour@1", "grey@3", "grey@4"]


async def test_version_has_left_when_its_last_request_was_answered(store: Store, events: Events) -> None:
    """The next refresh reports it, once."""
    registry = make_registry(store, events, versions=1)
    await registry.refresh()
    store.publish("grey", make_model())
    await registry.refresh()
    assert events.left == []

    await registry.refresh()
    await registry.refresh()

    assert events.left == ["grey@1"]


async def test_version_has_not_left_while_a_request_has_it(store: Store, events: Events) -> None:
    """Otherwise, metrics that the request counts later would never be removed."""
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
    """The metrics of the version continue."""
    registry = make_registry(store, events)
    await registry.refresh()
    folder = store.folder(ModelVersion("grey", 1))
    for source, target in ((folder, store.root / "away"), (store.root / "away", folder)):
        source.rename(target)
        await registry.refresh()

    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]
    assert events.left == []


async def test_refreshes_wait_for_each_other(store: Store, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refreshes at once would load a version twice, and the second would replace the first."""
    registry = make_registry(store, events)
    loaded: list[str] = []
    load = store.load

    def watched(version: ModelVersion) -> StoredModel:
        loaded.append(str(version))
        return load(version)

    monkeypatch.setattr(store, "load", watched)
    await asyncio.gather(registry.refresh(), registry.refresh())

    assert sorted(loaded) == ["colour@1", "grey@1"]


async def test_version_whose_files_cannot_be_read_is_refused_alone(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may have the wrong permissions; when they are mended, the version is served."""

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
    """The refusal is counted once, not at each refresh."""
    break_weights(store, store.publish("grey", make_model()))
    await registry.refresh()
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@1"
    assert events.refused == ["grey"]


async def test_version_that_ends_the_process_is_refused_and_others_are_served(store: Store, events: Events) -> None:
    """After two deaths in a row, the next start leaves the version out; its reason is told."""
    for _ in range(2):
        die(store.root.parent / "cache", store.card(ModelVersion("grey", 1)), "cpu None")
    registry = make_registry(store, events)
    await registry.refresh()

    assert served(registry) == ["colour@1"]
    assert "The process ended 2 times in a row" in registry.refused[ModelVersion("grey", 1)]


async def test_version_whose_answers_are_not_finite_is_refused_and_the_old_one_stays(
    registry: Registry, store: Store
) -> None:
    """Its weights are finite, so that the store takes it, but sums of their products are not."""
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.full_like(parameter, 3e38))
    version = store.publish("grey", model)
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@1"
    assert "gives numbers that are not finite" in registry.refused[version]


async def test_good_version_after_a_broken_one_is_served(registry: Registry, store: Store) -> None:
    """A broken publication does not stop the next one."""
    break_weights(store, store.publish("grey", make_model()))
    await registry.refresh()
    store.publish("grey", make_model())
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1", "grey@3"]


async def test_refused_version_is_served_when_it_was_mended(registry: Registry, store: Store) -> None:
    """The version is tried again when its files change."""
    version = store.publish("grey", make_model())
    break_weights(store, version)
    await registry.refresh()
    break_weights(store, version)
    await registry.refresh()

    assert str(registry.find("grey").version) == "grey@2"


async def test_refusal_that_may_pass_is_counted_once_and_tried_again(
    registry: Registry, store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files are not a fault of the model."""

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


async def test_removed_version_still_answers_requests_that_found_it(registry: Registry, store: Store) -> None:
    """A request that has found the model is still answered."""
    model = registry.find("colour")
    store.folder(model.version).rename(store.root / "away")
    await registry.refresh()

    with pytest.raises(ModelNotFound):
        registry.find("colour")
    limits = Limits(
        images=8, pixels=10_000, picture_pixels=10_000, draws=1, answer_bytes=100_000, compute_bytes=2**30, compute_s=10
    )
    memory = Memory(100_000, 100_000, AnswerMemoryFull).reserve("any client")
    samples = await sample(Session(model, limits, Timings(), memory), 2, seed=1)
    assert samples.images.shape == (2, 3, 8, 8)


async def test_store_that_went_away_leaves_everything_served(registry: Registry, store: Store) -> None:
    """A volume may be unmounted for a moment."""
    store.root.rename(store.root.with_name("elsewhere"))

    await registry.refresh_forever(every_s=0)

    assert served(registry) == ["colour@1", "grey@1"]


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Let each call of the system for a file or folder fail, as a network's file system does."""

    def guarded(place: object, *arguments: Any, call: Callable[..., Any], **more: Any) -> Any:
        if str(place) == str(path) or str(place).startswith(f"{path}/"):
            raise OSError(number, os.strerror(number), str(place))
        return call(place, *arguments, **more)

    for name in ("listdir", "stat", "lstat", "open"):
        monkeypatch.setattr(os, name, partial(guarded, call=getattr(os, name)))


@pytest.mark.parametrize("path", ["", "colour", "colour/1", "_default"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
async def test_what_is_served_stays_while_it_cannot_be_read(
    registry: Registry, store: Store, path: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log and /healthz say so, the log once; when the store can be read again, the warning is gone."""
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logged:
        unreadable(patch, store.root / path, number)
        for _ in range(2):
            await registry.refresh_forever(every_s=0)
        assert served(registry) == ["colour@1", "grey@1"]
        assert str(registry.find(None).version) == "colour@1"
        (warning,) = registry.warnings
    assert os.strerror(number) in warning
    assert str(store.root) not in warning
    assert [line["event"] for line in logged if not line["event"].startswith("version refused")] == [
        "the store must be mended" if path else "store cannot be read"
    ]

    await registry.refresh_forever(every_s=0)
    assert registry.warnings == []
    assert served(registry) == ["colour@1", "grey@1"]


async def test_model_that_cannot_be_read_does_not_hold_up_the_others(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New versions of other models are served, and versions that were removed are not."""
    store.publish("grey", make_model())
    shutil.rmtree(store.root / "grey" / "1")
    unreadable(monkeypatch, store.root / "colour", errno.EIO)
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@2"]


@pytest.mark.parametrize("remains", ["lost+found", "grey"])
async def test_empty_folder_in_the_place_of_the_store_leaves_everything_served(
    registry: Registry, store: Store, remains: str
) -> None:
    """A volume that is not mounted looks like this. The default stays too. The next version ends the doubt."""
    store.root.rename(store.root.with_name("elsewhere"))
    (store.root / remains).mkdir(parents=True)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]
    assert str(registry.find(None).version) == "colour@1"
    assert registry.warnings == [ALL_GONE]
    assert [line["reason"] for line in logged if line["event"] == "the store must be mended"] == [ALL_GONE]

    store.publish("blue", make_model())
    await registry.refresh()
    assert (served(registry), registry.warnings) == (["blue@1"], [])


async def test_link_to_a_volume_that_is_away_leaves_its_versions_served(registry: Registry, store: Store) -> None:
    """The name of the model is still there; without the name, the model was removed."""
    (store.root / "colour").rename(store.root.with_name("volume"))
    (store.root / "colour").symlink_to(store.root.with_name("volume"))
    await registry.refresh()
    store.root.with_name("volume").rename(store.root.with_name("away"))
    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1"]

    (store.root / "colour").unlink()
    await registry.refresh()
    assert served(registry) == ["grey@1"]


def replace_version(store: Store, version: ModelVersion, seed: int) -> None:
    """Copy another model over the files of a version, with their times."""
    times = {file.name: file.stat().st_mtime_ns for file in store.folder(version).iterdir()}
    other = store.folder(store.publish("other", make_model(seed=seed)))
    for name, time in times.items():
        (store.folder(version) / name).unlink(missing_ok=True)
        copy = shutil.copy(other / name, store.folder(version) / name)
        os.utime(copy, ns=(time, time))
    shutil.rmtree(store.root / "other")


async def test_version_that_is_changed_in_place_is_served_unchanged(registry: Registry, store: Store) -> None:
    """Caches hold its answers for a year. The warning names it, and ends when the old files are back."""
    version, before = ModelVersion("grey", 1), registry.find("grey@1")
    shutil.copytree(store.folder(version), store.root.with_name("backup"))
    replace_version(store, version, seed=7)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            await registry.refresh()

    assert registry.find("grey@1") is before
    assert [warning.partition(",")[0] for warning in registry.warnings] == ["grey@1 was changed in the store"]
    assert [line["event"] for line in logged] == ["the store must be mended"]

    shutil.rmtree(store.folder(version))
    shutil.copytree(store.root.with_name("backup"), store.folder(version))
    await registry.refresh()
    assert registry.warnings == []
    assert registry.find("grey@1") is before


async def test_weights_that_are_changed_in_place_are_noticed(registry: Registry, store: Store) -> None:
    """The card is the same; the file has lost a byte, or has another."""
    break_weights(store, ModelVersion("grey", 1))
    await registry.refresh()

    assert [warning.partition(",")[0] for warning in registry.warnings] == ["grey@1 was changed in the store"]


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
async def test_file_that_a_served_version_has_lost_is_noticed(registry: Registry, store: Store, name: str) -> None:
    """The version stays, with a warning: at the next start it could not be served."""
    (store.folder(ModelVersion("grey", 1)) / name).unlink()
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]
    (warning,) = registry.warnings
    assert warning.startswith("grey@1 cannot be read any more, and is still served: ")
    assert str(store.root) not in warning


async def test_same_files_written_again_are_no_change(registry: Registry, store: Store) -> None:
    """A restored backup has other times and inodes."""
    folder = store.folder(ModelVersion("grey", 1))
    shutil.copytree(folder, store.root / "copy")
    shutil.rmtree(folder)
    (store.root / "copy").rename(folder)
    await registry.refresh()

    assert registry.warnings == []


async def test_number_that_was_served_with_other_weights_is_refused(registry: Registry, store: Store) -> None:
    """The version was removed, and another was copied into its place by hand."""
    version = ModelVersion("grey", 1)
    shutil.copytree(store.folder(version), store.root.with_name("backup"))
    shutil.rmtree(store.folder(version))
    await registry.refresh()
    assert served(registry) == ["colour@1"]

    store.folder(version).mkdir()
    for name in ("card.json", "weights.safetensors"):
        shutil.copy(store.folder(ModelVersion("colour", 1)) / name, store.folder(version) / name)
    await registry.refresh()
    assert served(registry) == ["colour@1"]
    assert registry.refused[version].startswith("grey@1 had other weights when it was served before")

    shutil.rmtree(store.folder(version))
    shutil.copytree(store.root.with_name("backup"), store.folder(version))
    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1"]


async def test_refresh_that_fails_unexpectedly_is_logged(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next refresh still comes. Otherwise the service would serve old models without a word in the log."""

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(store, "listing", fail)
    with structlog.testing.capture_logs() as logged:
        await registry.refresh_forever(every_s=0)

    assert [(line["event"], line["log_level"]) for line in logged] == [("store cannot be read", "error")]


async def test_store_that_was_not_read_yet_is_starting(store: Store, events: Events) -> None:
    """The error is not that there is no such model."""
    registry = make_registry(store, events)

    with pytest.raises(Starting):
        registry.find("grey")
    assert isinstance(registry.why_not_ready(), Starting)


@pytest.mark.parametrize(
    ("default", "found"),
    [(None, "colour@1"), ("grey", "grey@1"), ("grey@1", "grey@1")],
    ids=["store", "name", "pinned"],
)
async def test_default_model_is_that_of_the_setting_or_of_the_store(
    store: Store, events: Events, default: str | None, found: str
) -> None:
    """`find(None)` gives the model of /v1/encode."""
    registry = make_registry(store, events, default)
    await registry.refresh()

    assert str(registry.find(None).version) == found


async def test_default_model_is_not_moved_by_what_is_published(store: Store, events: Events) -> None:
    """A copy whose card is older than every other card does not become the default model."""
    registry = make_registry(store, events)
    shutil.copytree(store.root / "grey", store.root / "aaa")
    rewrite_card(store, partial(dict.update, created="1970-01-01T00:00:00Z"), ModelVersion("aaa", 1))
    await registry.refresh()

    assert str(registry.find(None).version) == "colour@1"


async def test_default_model_that_is_removed_is_missed(store: Store, events: Events) -> None:
    """No other model answers in its place. Clients and operators get the same reason."""
    registry = make_registry(store, events)
    await registry.refresh()
    shutil.rmtree(store.root / "colour")
    await registry.refresh()

    reason = "The default model colour is not in the store, which has grey@1; publish it, or choose another default."
    with pytest.raises(NoDefaultModel, match=reason):
        registry.find(None)
    assert str(registry.why_not_ready()) == reason
    assert str(registry.find("grey").version) == "grey@1"


async def test_default_model_can_be_chosen_while_the_service_runs(store: Store, events: Events) -> None:
    """The next refresh reads the choice."""
    registry = make_registry(store, events)
    await registry.refresh()
    store.choose_default("grey@1")
    await registry.refresh()

    assert str(registry.find(None).version) == "grey@1"


async def test_only_model_is_the_default(store: Store, events: Events) -> None:
    """With a second model there is no default, but the service stays ready for requests that name a model."""
    (store.root / "_default").unlink()
    (store.root / "colour").rename(store.root / ".away")
    registry = make_registry(store, events)
    await registry.refresh()
    assert str(registry.find(None).version) == "grey@1"

    (store.root / ".away").rename(store.root / "colour")
    await registry.refresh()
    with pytest.raises(NoDefaultModel, match=r"has colour, grey.*model_store default NAME.*LATENTD_DEFAULT_MODEL"):
        registry.find(None)
    assert registry.why_not_ready() is None


async def test_model_that_breaks_leaves_no_other_as_the_default(store: Store, events: Events) -> None:
    """The refused model still counts, so there is no only model; but the message offers only the served one."""
    (store.root / "_default").unlink()
    break_weights(store, ModelVersion("colour", 1))
    registry = make_registry(store, events)
    await registry.refresh()

    assert served(registry) == ["grey@1"]
    with pytest.raises(NoDefaultModel, match=r"the store has grey\."):
        registry.find(None)


@pytest.mark.parametrize(
    ("default", "reason"),
    [
        (
            "blue",
            "The default model blue is not in the store, which has colour@1, grey@1, grey@2, grey@3; publish it, or "
            "choose another default.",
        ),
        ("colour", "The default model colour cannot be served. colour@1: Cannot use the weights colour/1/weights"),
        ("grey@1", "The default model grey@1 is not served: only the 2 newest versions of a model are served"),
    ],
    ids=["missing", "broken", "too-old"],
)
async def test_default_model_that_is_not_served_says_why(
    store: Store, events: Events, default: str, reason: str
) -> None:
    """Clients and probes get the reason without the path of the store, and the log has it once. Others are served."""
    break_weights(store, ModelVersion("colour", 1))
    for _ in range(2):
        store.publish("grey", make_model())
    registry = make_registry(store, events, default, versions=2)
    with structlog.testing.capture_logs() as logged:
        await registry.refresh()
        await registry.refresh()

    refusal = registry.why_not_ready()
    assert isinstance(refusal, NotServing)
    assert str(refusal).startswith(reason)
    assert [line["reason"] for line in logged if line["event"] == "not ready"] == [str(refusal)]
    assert str(registry.find("grey").version) == "grey@3"


async def test_file_of_the_default_model_that_holds_something_else_is_no_default(store: Store, events: Events) -> None:
    """No other model takes its place."""
    (store.root / "_default").write_text("the best model\n")
    registry = make_registry(store, events)
    await registry.refresh()

    assert str(registry.why_not_ready()).startswith("The file _default must name the default model")
    with pytest.raises(NoDefaultModel):
        registry.find(None)


async def test_empty_store_is_not_ready(tmp_path: Path, events: Events) -> None:
    """The service is not starting any more: a model has to be published."""
    registry = make_registry(Store(tmp_path), events)
    await registry.refresh()

    assert str(registry.why_not_ready()).startswith("The store has no models.")


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("grey", "1: the store is the folder of one model, with its version 1; name the folder above it as the store"),
        ("grey/1", "the store is the folder of one version; name the folder two levels above it as the store"),
    ],
    ids=["model", "version"],
)
async def test_folder_of_a_model_is_not_a_store(store: Store, events: Events, inside: str, reason: str) -> None:
    """The reason says which folder is the store."""
    registry = make_registry(Store(store.root / inside), events)
    await registry.refresh()

    assert reason in str(registry.why_not_ready())


async def test_store_that_cannot_be_read_is_not_starting(store: Store, events: Events) -> None:
    """Clients get the reason without the path, and the log has it once."""
    store.root.rename(store.root.with_name("elsewhere"))
    registry = make_registry(store, events)
    with structlog.testing.capture_logs() as logged:
        await registry.refresh_forever(every_s=0)
        await registry.refresh_forever(every_s=0)

    assert str(registry.why_not_ready()).startswith(
        "The store cannot be read. No store at LATENTD_STORE: there is no such folder"
    )
    assert [line["event"] for line in logged] == ["store cannot be read"]


async def test_linked_model_is_served(store: Store, events: Events, tmp_path: Path) -> None:
    """Kubernetes mounts the folders of a volume as links."""
    (store.root / "grey").rename(tmp_path / "grey")
    (store.root / "grey").symlink_to(tmp_path / "grey")
    registry = make_registry(store, events)
    await registry.refresh()

    assert served(registry) == ["colour@1", "grey@1"]


async def test_folder_that_looks_like_a_version_is_refused_once(store: Store, events: Events) -> None:
    """The log and the clients get the reason."""
    store.folder(ModelVersion("grey", 1)).rename(store.root / "grey" / "v1")
    registry = make_registry(store, events)
    with structlog.testing.capture_logs() as logged:
        await registry.refresh()
        await registry.refresh()

    reason = "'v1' is not a version: rename the folder to a whole number, such as 1"
    assert registry.misplaced == {"grey/v1": reason}
    assert [(line["folder"], line["reason"]) for line in logged if line["event"] == "version refused"] == [
        ("grey/v1", reason)
    ]
    assert events.refused == ["grey"]


async def test_refused_version_that_is_asked_for_has_its_reason(registry: Registry, store: Store) -> None:
    """The client learns why a version of the store is not served."""
    break_weights(store, store.publish("grey", make_model()))
    await registry.refresh()

    with pytest.raises(ModelNotFound, match=r"No model grey@2; there is .*\. grey@2: Cannot use the weights grey/2/"):
        registry.find("grey@2")


async def test_model_without_room_in_memory_is_tried_again(
    store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may release memory later. ONNX Runtime names the reason only in the message."""

    async def fail(*_: object) -> None:
        raise RuntimeError("std::bad_alloc")

    registry = make_registry(store, events)
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "warm_up", fail)
        await registry.refresh()
    assert served(registry) == []

    await registry.refresh()
    assert served(registry) == ["colour@1", "grey@1"]


async def test_model_that_cannot_be_built_is_read_once(
    store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same files, every refresh would fail in the same way."""
    reads: list[str] = []

    def fail(version: ModelVersion) -> None:
        reads.append(str(version))
        raise TypeError("an unknown layer")

    monkeypatch.setattr(store, "load", fail)
    registry = make_registry(store, events)
    await registry.refresh()
    await registry.refresh()

    assert sorted(reads) == ["colour@1", "grey@1"]


@pytest.mark.parametrize("reference", ["../grey", "grey@", "a/b", "\0", "grey@1@1"])
async def test_reference_that_is_no_name_is_refused(registry: Registry, reference: str) -> None:
    """The reference never reaches the file system."""
    with pytest.raises(InvalidName):
        registry.find(reference)


async def test_new_version_waits_for_the_other_workers_but_not_without_end(registry: Registry, store: Store) -> None:
    """A worker that cannot load it holds the others up for a minute; a line says that the answers differ now."""
    registry.share(workers=2)
    registry.agreement.join(1)
    registry.agreement.offer(7)  # the models of another worker, which never has the new version
    registry.join(0)
    store.publish("grey", make_model(seed=3))
    await registry.refresh()
    waiting = [str(registry.find("grey").version), registry.catch_up()]
    with structlog.testing.capture_logs() as lines:
        registry._switch_by = 0.0
        switched = str(registry.find("grey").version)

    assert waiting == ["grey@1", False]
    assert switched == "grey@2"
    assert "workers serve different models" in [line["event"] for line in lines]


def calibration_of(store: Store, version: ModelVersion, images: int = 500) -> Calibration:
    """A calibration of a version."""
    return Calibration(
        created=datetime(2026, 11, 27, tzinfo=UTC),
        weights_sha256=store.card(version).weights.sha256,
        data="good parts",
        images=images,
        draws=1,
        scores=ScoreQuantiles(elbo_nats=tuple(map(float, range(101))), protocol="made up"),
    )


async def test_calibration_is_taken_up_replaced_and_dropped(registry: Registry, store: Store) -> None:
    """The model itself is not loaded again: it keeps its queue and its runner."""
    before, version = registry.find("grey"), ModelVersion("grey", 1)
    file = store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    first = registry.find("grey")
    store.add_calibration(version, "line-3", calibration_of(store, version, images=900))
    await registry.refresh()
    second = registry.find("grey")
    file.unlink()
    await registry.refresh()

    assert before.calibrations == {}
    assert first.calibrations["line-3"].images == 500
    assert second.calibrations["line-3"].images == 900
    assert registry.find("grey").calibrations == {}
    assert registry.find("grey").batcher is second.batcher is first.batcher is before.batcher


async def test_calibration_that_was_damaged_stays_as_it_was_read(registry: Registry, store: Store) -> None:
    """The operator reads the file and the reason, and clients notice nothing."""
    version = ModelVersion("grey", 1)
    file = store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    file.chmod(0o644)
    file.write_text("{")
    await registry.refresh()

    assert registry.find("grey").calibrations["line-3"].images == 500
    assert "must hold a calibration, but it is not JSON" in " ".join(registry.warnings)
    assert str(store.root) not in " ".join(registry.warnings)


async def test_calibrations_stay_while_the_store_is_away(registry: Registry, store: Store) -> None:
    """A volume that is not mounted for a moment does not change how pictures are judged."""
    version = ModelVersion("grey", 1)
    store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    away = store.root.rename(store.root.with_name("away"))
    store.root.mkdir()
    await registry.refresh()
    assert ALL_GONE in registry.warnings
    assert "line-3" in registry.find("grey").calibrations

    store.root.rmdir()
    away.rename(store.root)
    await registry.refresh()

    assert "line-3" in registry.find("grey").calibrations


async def test_calibration_that_was_deleted_does_not_come_back(registry: Registry, store: Store) -> None:
    """A broken file of its name is not the calibration that was read before the deletion."""
    version = ModelVersion("grey", 1)
    file = store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    file.unlink()
    await registry.refresh()
    file.write_text("{")
    await registry.refresh()

    assert registry.find("grey").calibrations == {}


async def test_workers_agree_though_one_of_them_has_never_read_a_damaged_calibration(
    registry: Registry, store: Store, events: Events
) -> None:
    """A worker that was started later does not have the numbers that the others read before the damage."""
    version = ModelVersion("grey", 1)
    file = store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    file.write_text("{")
    await registry.refresh()
    later = make_registry(store, events)
    await later.refresh()

    assert "line-3" in registry.find("grey").calibrations
    assert "line-3" not in later.find("grey").calibrations
    assert registry._served.number == later._served.number


async def test_version_has_not_left_while_a_request_has_it_with_another_calibration(
    store: Store, events: Events
) -> None:
    """A request keeps the record that it was opened with, and its queue belongs to the same version."""
    version = store.publish("grey", make_model(seed=1))
    registry = make_registry(store, events)
    await registry.refresh()
    held = registry.find(str(version))
    store.add_calibration(version, "line-3", calibration_of(store, version))
    await registry.refresh()
    store.delete(version)
    for _ in range(2):
        await registry.refresh()
    assert events.left == []

    del held
    for _ in range(2):
        await registry.refresh()

    assert events.left == [str(version)]
