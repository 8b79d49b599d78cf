"""Registry: the models that are served now, updated from the store.

A version is loaded and warmed up before it gets requests. A version that cannot be read is refused, and the others are
still served. `store_watch` decides which versions are gone. An alias keeps the version that it names served, and means
another version once that one is loaded. Names in requests are looked up in memory: they never become paths.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import structlog

from model_store import (
    ModelNotFound,
    ModelVersion,
    NoDefault,
    StoreError,
    UnusableAliases,
    newest,
    parse_reference,
)
from model_store.places.folder import Fingerprint

from ..compute.rows import Rows
from ..errors import NoDefaultModel, NotServing, ServiceError, Starting, Unavailable
from .agreement import Agreement
from .batcher import Batcher
from .loader import Loader
from .model_set import ModelSet
from .refusals import Refusal, Refusals, may_pass, without_path
from .served_model import BatchKey, ServedModel
from .store_watch import Reading, StoreWatch

AGREE_S = 60.0  # for all workers to load new models; a worker that cannot load them does not hold the others up longer

log = structlog.get_logger()


class VersionEvents(Protocol):
    """The counters that the registry reports to: versions that were refused, and versions that have left."""

    def version_refused(self, name: str) -> None:
        """Count a version of that model that could not be served."""

    def version_left(self, model: str) -> None:
        """Note that a version is no longer served, and that its last requests have been answered."""


class Registry:
    """The served models, by version. `refresh` updates them from the store. Workers switch to new models together.

    Attributes:
        agreement: the moment at which all workers switch to new models.
    """

    def __init__(
        self, loader: Loader, events: VersionEvents, *, default_model: str | None, versions_per_model: int
    ) -> None:
        self.device = loader.device
        self._loader = loader
        self._store = loader.store
        self._events = events
        self._watch = StoreWatch(loader.store, default_model)
        self._store_warnings: list[str] = []
        self._model_warnings: list[str] = []
        self._aliases: dict[str, list[ModelVersion]] = {}  # of the store: what each has named, the present version last
        self._unusable_aliases: dict[str, UnusableAliases] = {}
        self._versions_per_model = versions_per_model
        self._published: list[ModelVersion] = []
        self._unreadable: str | None = None  # why the store could not be read last time
        self._not_ready: str | None = str(Starting())  # the reason that was logged last
        self._served = ModelSet({}, default_model or NoDefault([]))
        self._next: ModelSet | None = None  # loaded, and not switched to yet
        self._found: dict[str | None, ServedModel] = {}  # by reference; cleared when the served models change
        self._refusals = Refusals(loader.store.root, events.version_refused)
        self._failed: set[ModelVersion] = set()  # in this refresh, which does not load them twice
        self._leaving: dict[
            ModelVersion, weakref.ref[Batcher[BatchKey, Rows, Rows]]
        ] = {}  # perhaps still used by requests
        self._refreshing = asyncio.Lock()  # made outside an event loop: it only needs one when two tasks wait for it
        self._refreshed = False
        self.agreement = Agreement()
        self._patience_s = AGREE_S
        self._switch_by = math.inf

    @property
    def served(self) -> list[ServedModel]:
        """All served models, sorted by name and version."""
        self._switch_if_agreed()
        return [self._served.models[version] for version in sorted(self._served.models)]

    @property
    def aliases(self) -> dict[ModelVersion, list[str]]:
        """The aliases of each served version that has some, without its name, in order."""
        found: dict[ModelVersion, list[str]] = {}
        for reference, version in sorted(self._served.aliases.items()):
            found.setdefault(version, []).append(reference.partition("@")[2])
        return found

    @property
    def refused(self) -> dict[ModelVersion, str]:
        """Published versions that are not served, each with the reason."""
        return self._refusals.reasons

    @property
    def misplaced(self) -> dict[str, str]:
        """Folders of the store that look like versions and are not, each with the reason."""
        return self._refusals.misplaced

    @property
    def warnings(self) -> list[str]:
        """Faults of the store that an operator must mend, though models are served."""
        unreadable = [self._unreadable] if self._unreadable and self._refreshed else []
        return [without_path(warning, self._store.root) for warning in (*unreadable, *self._store_warnings)]

    @property
    def default(self) -> ServedModel | None:
        """The default model, or None if the store has no default or the default is not served."""
        with suppress(StoreError, ServiceError):
            return self.find(None)
        return None

    def why_not_ready(self) -> Unavailable | None:
        """Why the service cannot answer requests, or None. Several models without a default are ready too."""
        if not self._refreshed:
            return NotServing(self._unreadable) if self._unreadable else Starting()
        if not self._served.models:
            return NotServing(self._refusals.summary())
        if isinstance(self._served.default, NoDefault):
            return None
        try:
            self.find(None)
        except NoDefaultModel as error:
            return NotServing(str(error))
        return None

    def find(self, reference: str | None) -> ServedModel:
        """The model of a reference: `name` (its newest version), `name@version`, `name@alias`, or None for the default.

        Raises:
            InvalidName, ModelNotFound, NoDefaultModel: no such model is served.
            Starting, NotServing: the store has not been read yet.
        """
        if self._next is not None:
            self._switch_if_agreed()
        if reference in self._found:
            return self._found[reference]
        if not self._refreshed:
            raise NotServing(self._unreadable) if self._unreadable else Starting()
        wanted = self._served.default if reference is None else reference
        if isinstance(wanted, NoDefault):
            wanted = NoDefault({version.name for version in self._served.models})
        if isinstance(wanted, StoreError):
            raise NoDefaultModel(without_path(str(wanted), self._store.root))
        try:
            found = self._served.find(wanted)
        except ModelNotFound:
            if reference is None:
                raise NoDefaultModel(self.why_default_is_not_served(wanted)) from None
            raise ModelNotFound(reference, sorted(self._served.models), *self._reasons(reference)) from None
        # other spellings could fill the memory
        if reference in (None, found.version.name, str(found.version)) or reference in self._served.aliases:
            self._found[reference] = found
        return found

    def why_default_is_not_served(self, default: str) -> str:
        """Why a default model is not served, and the remedy, for an error message."""
        named = str(self._aliases[default][-1]) if default in self._aliases else default
        if refusals := self._refusals.of(named):
            return f"The default model {default} cannot be served. {'. '.join(refusals)}."
        try:
            newest(named, self._published)
        except ModelNotFound:
            there = ", ".join(map(str, self._published)) or "no models"
            remedy = "publish it, or choose another default"
            return f"The default model {default} is not in the store, which has {there}; {remedy}."
        newest_only = f"only the {self._versions_per_model} newest versions of a model are served"
        return f"The default model {default} is not served: {newest_only}. Raise LATENTD_VERSIONS_PER_MODEL."

    def _reasons(self, reference: str) -> list[str]:
        """Why no model of a reference is served, without full stops at the end."""
        name, end = parse_reference(reference)
        if not isinstance(end, str):
            return self._refusals.of(reference)
        if reference not in self._aliases:
            if name in self._unusable_aliases:
                return [without_path(str(self._unusable_aliases[name]), self._store.root).rstrip(".")]
            return [f"{end} is not an alias of {name}; /v1/models lists the aliases"]
        named = str(self._aliases[reference][-1])
        return [f"{reference} names {named}", *self._refusals.of(named)]

    def withdraw_attempts(self) -> None:
        """Called when the process is asked to end while it reads models: none of them ends it."""
        self._loader.attempts.withdraw()

    async def refresh(self) -> None:
        """Serve new versions of the store, and stop serving versions that were removed. One refresh runs at a time.

        All new versions are loaded first, and then switched to at one moment, by all workers.

        Raises:
            StoreNotFound: the store's folder is missing; the served models stay.
        """
        async with self._refreshing:
            reading = await asyncio.to_thread(self._watch.read, set(self._served.models))
            self._failed.clear()
            self._refusals.note_misplaced(reading.misplaced)
            self._note_warnings([*reading.warnings, *self._model_warnings])
            wanted: dict[ModelVersion, ServedModel] = {}
            for _, versions in groupby(reading.versions, key=lambda version: version.name):
                wanted |= await self._load_newest(list(versions))
            aliases = await self._load_named(reading, wanted)
            wanted, calibrations, faults = await asyncio.to_thread(self._calibrated, wanted)
            self._refreshed, self._unreadable, self._published = True, None, reading.versions
            self._aliases, self._unusable_aliases = reading.aliases, reading.unusable_aliases
            self._model_warnings = [*_alias_warnings(reading.aliases, aliases), *faults]
            self._note_warnings([*reading.warnings, *self._model_warnings])
            self._refusals.keep_only(reading.versions)
            if self._next is None:
                self._switch_by = time.monotonic() + self._patience_s
            self._next = ModelSet(wanted, reading.default, aliases, calibrations)
            self._switch_if_agreed()

    def share(self, workers: int) -> None:
        """Called before the workers are forked: they switch to new models together."""
        self.agreement = Agreement(workers)

    def join(self, worker: int) -> None:
        """Called in a worker that has been forked, with its number."""
        self.agreement.join(worker)
        self.agreement.offer(self._served.number)

    def catch_up(self) -> bool:
        """Whether this worker may answer: the other workers do not serve newer models, or there are none."""
        self._switch_if_agreed()
        if self._next is None:
            self.agreement.offer(self._served.number)
        return not self.agreement.is_ahead_of(self._served.number)

    def _switch_if_agreed(self) -> None:
        """Switch to the models that were loaded last if all workers have loaded them, or if that takes too long."""
        if (wanted := self._next) is None:
            return
        if not self.agreement.offer(wanted.number) and wanted.number != self._served.number:
            if time.monotonic() < self._switch_by:
                return
            log.error("workers serve different models", waited_s=self._patience_s)
        self._next = None
        self._switch(wanted)
        self._log_readiness()

    def _switch(self, wanted: ModelSet) -> None:
        """Serve these models, and no others. Report versions that left before and that no request uses any more."""
        before, now = self._served.models, wanted.models
        for reference, version in sorted(wanted.aliases.items() - self._served.aliases.items()):
            log.info("alias", alias=reference, model=str(version))
        self._served = wanted
        self._found.clear()
        for version in now.keys() - before.keys():
            self._leaving.pop(version, None)
            log.info("serving", model=str(version), device=str(self.device), runtime=now[version].runner.runtime)
        for version in [version for version, batcher in self._leaving.items() if batcher() is None]:
            del self._leaving[version]
            self._events.version_left(str(version))
        for version in before.keys() - now.keys():
            self._leaving[version] = weakref.ref(before[version].batcher)
            log.info("no longer serving", model=str(version))

    async def refresh_forever(self, every_s: float) -> None:
        """Refresh now and then every `every_s` seconds; only now if that is 0. Errors are logged."""
        self._patience_s = AGREE_S + 2 * every_s  # another worker may read the store that much later
        while True:
            try:
                await self.refresh()
            except (StoreError, OSError) as error:
                self._log_unreadable(error, log.error)
            except Exception as error:  # the next refresh may succeed; an error would end this task unnoticed
                self._log_unreadable(error, log.exception)
            if not every_s:
                return
            await asyncio.sleep(every_s)

    def _note_warnings(self, warnings: list[str]) -> None:
        """Log each new warning once, not at each refresh."""
        for warning in warnings:
            if warning not in self._store_warnings:
                log.error("the store must be mended", reason=warning)
        self._store_warnings = warnings

    def _log_unreadable(self, error: Exception, write: Callable[..., object]) -> None:
        """Log once why the store cannot be read, not at each refresh."""
        reason = f"The store cannot be read. {without_path(str(error) or repr(error), self._store.root)}"
        if reason != self._unreadable:
            write("store cannot be read", reason=str(error) or repr(error))
        self._unreadable = reason

    def _log_readiness(self) -> None:
        """Log when the service becomes ready; if it is not ready, log the reason once."""
        unavailable = self.why_not_ready()
        reason = str(unavailable) if unavailable else None
        if reason == self._not_ready:
            return
        self._not_ready = reason
        if reason is None:
            log.info("ready", models=[str(version) for version in sorted(self._served.models)])
        else:
            log.error("not ready", reason=reason, store=str(self._store.root))

    async def _load_newest(self, versions: list[ModelVersion]) -> dict[ModelVersion, ServedModel]:
        """The newest versions of one model. Older versions replace those that cannot be served."""
        loaded: dict[ModelVersion, ServedModel] = {}
        for version in reversed(versions):
            if len(loaded) < self._versions_per_model and (model := await self._load(version)):
                loaded[version] = model
        return loaded

    async def _load_named(self, reading: Reading, wanted: dict[ModelVersion, ServedModel]) -> dict[str, ModelVersion]:
        """The version that each alias means, which is added to the wanted ones if it is not among the newest.

        An alias whose version cannot be served means the version before, or the one that it means now: no older ones,
        since each of them would be loaded.
        """
        meanings: dict[str, ModelVersion] = {}
        published, now = set(reading.versions), (self._next or self._served).aliases
        for reference, history in reading.aliases.items():
            last_two = [version for version in history if version in published][-2:]
            candidates = [*reversed(last_two), *({now[reference]} & published if reference in now else ())]
            for version in candidates:
                if model := wanted.get(version) or await self._load(version):
                    wanted[version], meanings[reference] = model, version
                    break
        return meanings

    def _calibrated(
        self, models: dict[ModelVersion, ServedModel]
    ) -> tuple[dict[ModelVersion, ServedModel], list[str], list[str]]:
        """The models with the calibrations that the store has for them now.

        Beside them are words for each sound calibration, by which workers tell whether they have read the same, and
        what an operator must mend. A file that was damaged is not among the words: another worker may never have read
        it.
        """
        calibrated, marks, warnings = {}, [], []
        for version, model in models.items():
            try:
                found = self._watch.calibrations(version)
            except OSError as error:
                warnings.append(f"The calibrations of {version} cannot be listed ({error.strerror}). They stay.")
                calibrated[version] = model
                continue
            calibrations = {each.name: each.calibration for each in found if each.calibration}
            is_same = calibrations == model.calibrations
            calibrated[version] = model if is_same else replace(model, calibrations=calibrations)
            marks += [f"{version} {each.name} {each.identity}" for each in found if not each.fault]
            warnings += [each.fault for each in found if each.fault]
        self._watch.forget_calibrations(models)
        return calibrated, marks, warnings

    async def _load(self, version: ModelVersion) -> ServedModel | None:
        """Load a version, unless it is loaded already; None if it cannot be served."""
        for loaded in (self._served, self._next):
            if loaded and version in loaded.models:
                return loaded.models[version]
        if version in self._failed:
            return None
        files: Fingerprint = ()
        try:
            files = await asyncio.to_thread(self._store.fingerprint, version)
            refusal = self._refusals.find(version)
            if refusal and refusal.files == files and not refusal.may_pass:
                return None  # the same files would fail in the same way
            model = await self._loader.load(version, is_undisturbed=not self._refreshed)
            self._watch.check(version, model.card, files)
        except Exception as error:  # one bad version must not stop the others
            self._failed.add(version)
            self._refusals.refuse(version, Refusal(files, str(error), may_pass=may_pass(error)))
            return None
        self._refusals.forget(version)
        return model


def _alias_warnings(named: dict[str, list[ModelVersion]], meanings: dict[str, ModelVersion]) -> Iterator[str]:
    """A warning for each alias that does not mean the version that it names in the store."""
    for reference, history in named.items():
        if (meaning := meanings.get(reference)) != history[-1]:
            remedy = "Mend that version, or let the alias name another: python -m model_store alias NAME@VERSION ALIAS."
            answer = meaning or "an error (404)"
            yield f"{reference} names {history[-1]}, which cannot be served; requests for it get {answer}. {remedy}"
