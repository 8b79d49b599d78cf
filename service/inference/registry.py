"""Registry: the models that are served now, kept in step with the store.

A version is read and warmed up before anyone is sent to it, and one that cannot be read is refused while the others
stay. Requests are answered from memory: a name in a request never becomes a path.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple, Protocol

import structlog

from model_store import ModelNotFound, ModelVersion, NoDefault, StoreError, UnusableDefault, newest, parse_reference

from ..errors import NoDefaultModel, NotServing, ServiceError, Starting, Unavailable
from .loader import Loader
from .served_model import ServedModel

REASONS = 3  # that one message gives; /v1/models has all of them

log = structlog.get_logger()


class Refusal(NamedTuple):
    """Why a version is not served. It is tried again when its files change, or at once if the reason may pass."""

    files: object
    reason: str
    may_pass: bool


class VersionEvents(Protocol):
    """Counts what becomes of versions."""

    def version_refused(self, name: str) -> None:
        """A version of that model could not be served."""

    def version_left(self, model: str) -> None:
        """A version is served no longer, and its last requests have been answered."""


class Registry:
    """The served models by version; `refresh` compares them with the store."""

    def __init__(
        self, loader: Loader, events: VersionEvents, *, default_model: str | None, versions_per_model: int
    ) -> None:
        self.device = loader.device
        self._loader = loader
        self._store = loader.store
        self._events = events
        self._default_setting = default_model
        self._versions_per_model = versions_per_model
        self._published: list[ModelVersion] = []
        self._misplaced: dict[str, str] = {}  # why, by the path in the store
        self._default: str | StoreError = default_model or NoDefault([])
        self._unreadable: str | None = None  # why the last look at the store failed
        self._not_ready: str | None = str(Starting())  # as it was logged last
        self._served: dict[ModelVersion, ServedModel] = {}
        self._found: dict[str | None, ServedModel] = {}  # by reference, until something changes
        self._refused: dict[ModelVersion, Refusal] = {}
        self._leaving: dict[ModelVersion, weakref.ref[ServedModel]] = {}  # while requests may have them
        self._refreshing = asyncio.Lock()  # it belongs to no event loop until two tasks want it
        self._refreshed = False

    @property
    def served(self) -> list[ServedModel]:
        """All models that answer, by name and version."""
        return [self._served[version] for version in sorted(self._served)]

    @property
    def refused(self) -> dict[ModelVersion, str]:
        """Published versions that are not served, and why."""
        return {version: self._without_path(refusal.reason) for version, refusal in sorted(self._refused.items())}

    @property
    def misplaced(self) -> dict[str, str]:
        """Folders of the store that look like versions and are not, and why."""
        return self._misplaced

    @property
    def default(self) -> ServedModel | None:
        """The default model, if there is one and it is served."""
        with suppress(StoreError, ServiceError):
            return self.find(None)
        return None

    def why_not_ready(self) -> Unavailable | None:
        """Why requests would not be answered, or None. Several models of which none is the default are no reason."""
        if not self._refreshed:
            return NotServing(self._unreadable) if self._unreadable else Starting()
        if not self._served:
            return NotServing(self._why_nothing_is_served())
        if isinstance(self._default, NoDefault):
            return None
        try:
            self.find(None)
        except NoDefaultModel as error:
            return NotServing(str(error))
        return None

    def find(self, reference: str | None) -> ServedModel:
        """The model that `name` (its newest version) or `name@version` stands for; None is the default model.

        Raises:
            InvalidName, ModelNotFound, NoDefaultModel: there is none.
            Starting, NotServing: the store has not been read yet.
        """
        if reference in self._found:
            return self._found[reference]
        if not self._refreshed:
            raise NotServing(self._unreadable) if self._unreadable else Starting()
        found = self._find_default() if reference is None else self._find(reference)
        if reference in (None, found.version.name, str(found.version)):  # of a few spellings, not of all there are
            self._found[reference] = found
        return found

    def _find(self, reference: str) -> ServedModel:
        try:
            return self._served[newest(reference, self._served)]
        except ModelNotFound:
            raise ModelNotFound(reference, sorted(self._served), *self._refusals(reference)) from None

    def _refusals(self, reference: str) -> list[str]:
        """Why the versions that a reference could mean are refused, without the full stop."""
        name, number = parse_reference(reference)
        reasons = [
            f"{version}: {reason}"
            for version, reason in self.refused.items()
            if version.name == name and number in (None, version.number)
        ]
        reasons += [f"{path}: {reason}" for path, reason in self._misplaced.items() if path.partition("/")[0] == name]
        return [reason.rstrip(".") for reason in reasons[:REASONS]]

    def _find_default(self) -> ServedModel:
        if isinstance(self._default, StoreError):
            raise NoDefaultModel(self._without_path(str(self._default)))
        try:
            return self._served[newest(self._default, self._served)]
        except ModelNotFound:
            raise NoDefaultModel(self._why_default_is_not_served(self._default)) from None

    def _why_default_is_not_served(self, default: str) -> str:
        if refusals := self._refusals(default):
            return f"The default model {default} cannot be served. {'. '.join(refusals)}."
        try:
            newest(default, self._published)
        except ModelNotFound:
            there = ", ".join(map(str, self._published)) or "no models"
            return f"The default model {default} is not in the store, which has {there}."
        newest_only = f"only the {self._versions_per_model} newest versions of a model are served"
        return f"The default model {default} is not served: {newest_only}. Raise LATENTD_VERSIONS_PER_MODEL."

    def _why_nothing_is_served(self) -> str:
        reasons = [f"{what}: {reason}" for what, reason in [*self._misplaced.items(), *self.refused.items()]]
        if not reasons:
            return "The store has no models. A model that is published into it is served without a restart."
        shown = "; ".join(reason.rstrip(".") for reason in reasons[:REASONS])
        more = f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
        return f"The store has no model that can be served. {shown}{more}."

    def _without_path(self, reason: str) -> str:
        """The reason as clients may read it: they must not learn the path of the store."""
        root = str(self._store.root)
        return reason.replace(f"{root}/", "").replace(root, "LATENTD_STORE")

    async def refresh(self) -> None:
        """Serve what is new in the store, stop serving what is gone from it; one look after the other.

        Raises:
            StoreNotFound: the store's folder is not there; what is served stays.
        """
        async with self._refreshing:
            await self._reconcile()

    async def _reconcile(self) -> None:
        default, published, misplaced = await asyncio.to_thread(self._read_store)
        self._tell_misplaced(misplaced)
        wanted: set[ModelVersion] = set()
        for _, versions in groupby(published, key=lambda version: version.name):
            wanted.update(await self._serve_newest(list(versions)))
        self._refreshed, self._unreadable, self._published = True, None, published
        for version in self._refused.keys() - set(published):
            del self._refused[version]
        self._part_with(self._served.keys() - wanted)
        self._default = default
        self._found.clear()
        self._tell_readiness()

    def _part_with(self, versions: set[ModelVersion]) -> None:
        """Serve these no longer; those that left before are gone when no request has them any more."""
        for version in [version for version, model in self._leaving.items() if model() is None]:
            del self._leaving[version]
            self._events.version_left(str(version))
        for version in versions:
            self._leaving[version] = weakref.ref(self._served.pop(version))
            log.info("no longer serving", model=str(version))

    async def refresh_forever(self, every_s: float) -> None:
        """Refresh now and then every so often, or only now if that is 0; whatever goes wrong is logged."""
        while True:
            try:
                await self.refresh()
            except (StoreError, OSError) as error:
                self._tell_unreadable(error, log.error)
            except Exception as error:  # the next look may succeed, and nobody would hear of a task that has ended
                self._tell_unreadable(error, log.exception)
            if not every_s:
                return
            await asyncio.sleep(every_s)

    def _read_store(self) -> tuple[str | StoreError, list[ModelVersion], dict[str, str]]:
        """The default model, or why there is none; what is published; and what looks like it and is not.

        The default comes first: a model that is published and then chosen must not seem to be missing.
        """
        default: str | StoreError
        try:
            default = self._default_setting or self._store.default()
        except (NoDefault, UnusableDefault) as error:
            default = error
        return default, self._store.versions(), self._store.misplaced()

    def _tell_misplaced(self, misplaced: dict[str, str]) -> None:
        """Log and count each one once, not at each look."""
        for path in misplaced.keys() - self._misplaced.keys():
            self._events.version_refused(path.partition("/")[0])
            log.error("version refused", folder=path, reason=misplaced[path])
        self._misplaced = misplaced

    def _tell_unreadable(self, error: Exception, tell: Callable[..., object]) -> None:
        """Log once why the store cannot be read, not at each look."""
        reason = f"The store cannot be read. {self._without_path(str(error) or repr(error))}"
        if reason != self._unreadable:
            tell("store cannot be read", reason=str(error) or repr(error))
        self._unreadable = reason

    def _tell_readiness(self) -> None:
        """Log when the service becomes ready, and once why it is not ready."""
        obstacle = self.why_not_ready()
        reason = str(obstacle) if obstacle else None
        if reason == self._not_ready:
            return
        self._not_ready = reason
        if reason is None:
            log.info("ready", models=[str(version) for version in sorted(self._served)])
        else:
            log.error("not ready", reason=reason, store=str(self._store.root))

    async def _serve_newest(self, versions: list[ModelVersion]) -> list[ModelVersion]:
        """Of one model, the newest versions that can be served, as many as are wanted."""
        kept: list[ModelVersion] = []
        for version in reversed(versions):
            if len(kept) < self._versions_per_model and await self._serve(version):
                kept.append(version)
        return kept

    async def _serve(self, version: ModelVersion) -> bool:
        """Whether the version answers, now or already."""
        if version in self._served:
            return True
        files: object = None
        try:
            files = await asyncio.to_thread(self._store.fingerprint, version)
            if self._is_refused_for_good(version, files):
                return False
            self._served[version] = await self._loader.load(version, is_undisturbed=not self._refreshed)
            self._found.clear()
        except Exception as error:  # whatever is wrong with one version, the others are still to be served
            self._refuse(version, Refusal(files, str(error), may_pass=_may_pass(error)))
            return False
        self._refused.pop(version, None)
        self._leaving.pop(version, None)
        log.info("serving", model=str(version), device=str(self.device), runtime=self._served[version].runner.runtime)
        return True

    def _is_refused_for_good(self, version: ModelVersion, files: object) -> bool:
        """Whether it was refused with the same files, for a reason that does not pass."""
        refusal = self._refused.get(version)
        return refusal is not None and refusal.files == files and not refusal.may_pass

    def _refuse(self, version: ModelVersion, refusal: Refusal) -> None:
        """Remember it; say and count it once, not at each look."""
        if refusal == self._refused.get(version):
            return
        self._refused[version] = refusal
        self._events.version_refused(version.name)
        log.error("version refused", model=str(version), reason=refusal.reason)


def _may_pass(error: Exception) -> bool:
    """Whether an error may pass by itself: a full table of files, a device out of memory; not a file that is broken."""
    return isinstance(error, OSError | MemoryError | Unavailable) or isinstance(error.__cause__, OSError)
