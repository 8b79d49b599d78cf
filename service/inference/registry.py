"""Registry: the models that are served now, updated from the store.

A version is loaded and warmed up before it gets requests. A version that cannot be read is refused, and the others are
still served. Names in requests are looked up in memory: they never become paths.
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

REASONS = 3  # in one message; /v1/models lists all

log = structlog.get_logger()


class Refusal(NamedTuple):
    """Why a version is not served. It is tried again when its files change; at every refresh if the reason may pass."""

    files: object
    reason: str
    may_pass: bool


class VersionEvents(Protocol):
    """Counters of versions."""

    def version_refused(self, name: str) -> None:
        """Count a version of that model that could not be served."""

    def version_left(self, model: str) -> None:
        """Note that a version is no longer served, and that its last requests have been answered."""


class Registry:
    """The served models, by version. `refresh` updates them from the store."""

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
        self._misplaced: dict[str, str] = {}  # the reason, by the path in the store
        self._default: str | StoreError = default_model or NoDefault([])
        self._unreadable: str | None = None  # why the store could not be read last time
        self._not_ready: str | None = str(Starting())  # the reason that was logged last
        self._served: dict[ModelVersion, ServedModel] = {}
        self._found: dict[str | None, ServedModel] = {}  # by reference; cleared when the served models change
        self._refused: dict[ModelVersion, Refusal] = {}
        self._leaving: dict[ModelVersion, weakref.ref[ServedModel]] = {}  # perhaps still used by requests
        self._refreshing = asyncio.Lock()  # made outside an event loop: it only needs one when two tasks wait for it
        self._refreshed = False

    @property
    def served(self) -> list[ServedModel]:
        """All served models, sorted by name and version."""
        return [self._served[version] for version in sorted(self._served)]

    @property
    def refused(self) -> dict[ModelVersion, str]:
        """Published versions that are not served, each with the reason."""
        return {version: self._without_path(refusal.reason) for version, refusal in sorted(self._refused.items())}

    @property
    def misplaced(self) -> dict[str, str]:
        """Folders of the store that look like versions and are not, each with the reason."""
        return self._misplaced

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
        """The model of a reference: `name` (its newest version), `name@version`, or None for the default model.

        Raises:
            InvalidName, ModelNotFound, NoDefaultModel: no such model is served.
            Starting, NotServing: the store has not been read yet.
        """
        if reference in self._found:
            return self._found[reference]
        if not self._refreshed:
            raise NotServing(self._unreadable) if self._unreadable else Starting()
        found = self._find_default() if reference is None else self._find(reference)
        if reference in (
            None,
            found.version.name,
            str(found.version),
        ):  # other spellings could fill the memory
            self._found[reference] = found
        return found

    def _find(self, reference: str) -> ServedModel:
        try:
            return self._served[newest(reference, self._served)]
        except ModelNotFound:
            raise ModelNotFound(reference, sorted(self._served), *self._refusals(reference)) from None

    def _refusals(self, reference: str) -> list[str]:
        """The reasons why versions of a reference are refused, without full stops at the end."""
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
        """The reason without the path of the store, which clients must not learn."""
        root = str(self._store.root)
        return reason.replace(f"{root}/", "").replace(root, "LATENTD_STORE")

    async def refresh(self) -> None:
        """Serve new versions of the store, and stop serving versions that are gone. One refresh runs at a time.

        Raises:
            StoreNotFound: the store's folder is missing; the served models stay.
        """
        async with self._refreshing:
            await self._reconcile()

    async def _reconcile(self) -> None:
        default, published, misplaced = await asyncio.to_thread(self._read_store)
        self._log_misplaced(misplaced)
        wanted: set[ModelVersion] = set()
        for _, versions in groupby(published, key=lambda version: version.name):
            wanted.update(await self._serve_newest(list(versions)))
        self._refreshed, self._unreadable, self._published = True, None, published
        for version in self._refused.keys() - set(published):
            del self._refused[version]
        self._stop_serving(self._served.keys() - wanted)
        self._default = default
        self._found.clear()
        self._log_readiness()

    def _stop_serving(self, versions: set[ModelVersion]) -> None:
        """Stop serving these versions. Report versions that left before and that no request uses any more."""
        for version in [version for version, model in self._leaving.items() if model() is None]:
            del self._leaving[version]
            self._events.version_left(str(version))
        for version in versions:
            self._leaving[version] = weakref.ref(self._served.pop(version))
            log.info("no longer serving", model=str(version))

    async def refresh_forever(self, every_s: float) -> None:
        """Refresh now and then every `every_s` seconds; only now if that is 0. Errors are logged."""
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

    def _read_store(self) -> tuple[str | StoreError, list[ModelVersion], dict[str, str]]:
        """Read the default model (or the reason why there is none), the published versions, and misplaced folders.

        The default is read first. If a model is published and made the default between two reads, the versions that are
        read later have it.
        """
        default: str | StoreError
        try:
            default = self._default_setting or self._store.default()
        except (NoDefault, UnusableDefault) as error:
            default = error
        return default, self._store.versions(), self._store.misplaced()

    def _log_misplaced(self, misplaced: dict[str, str]) -> None:
        """Log and count each misplaced folder once, not at each refresh."""
        for path in misplaced.keys() - self._misplaced.keys():
            self._events.version_refused(path.partition("/")[0])
            log.error("version refused", folder=path, reason=misplaced[path])
        self._misplaced = misplaced

    def _log_unreadable(self, error: Exception, write: Callable[..., object]) -> None:
        """Log once why the store cannot be read, not at each refresh."""
        reason = f"The store cannot be read. {self._without_path(str(error) or repr(error))}"
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
            log.info("ready", models=[str(version) for version in sorted(self._served)])
        else:
            log.error("not ready", reason=reason, store=str(self._store.root))

    async def _serve_newest(self, versions: list[ModelVersion]) -> list[ModelVersion]:
        """Serve the newest versions of one model; return them. Older versions replace those that cannot be served."""
        kept: list[ModelVersion] = []
        for version in reversed(versions):
            if len(kept) < self._versions_per_model and await self._serve(version):
                kept.append(version)
        return kept

    async def _serve(self, version: ModelVersion) -> bool:
        """Load a version unless it is already served; return whether it is served."""
        if version in self._served:
            return True
        files: object = None
        try:
            files = await asyncio.to_thread(self._store.fingerprint, version)
            refusal = self._refused.get(version)
            if refusal and refusal.files == files and not refusal.may_pass:
                return False  # the same files would fail in the same way
            self._served[version] = await self._loader.load(version, is_undisturbed=not self._refreshed)
            self._found.clear()
        except Exception as error:  # one bad version must not stop the others
            self._refuse(version, Refusal(files, str(error), may_pass=_may_pass(error)))
            return False
        self._refused.pop(version, None)
        self._leaving.pop(version, None)
        log.info("serving", model=str(version), device=str(self.device), runtime=self._served[version].runner.runtime)
        return True

    def _refuse(self, version: ModelVersion, refusal: Refusal) -> None:
        """Remember a refusal; log and count it once, not at each refresh."""
        if refusal == self._refused.get(version):
            return
        self._refused[version] = refusal
        self._events.version_refused(version.name)
        log.error("version refused", model=str(version), reason=refusal.reason)


def _may_pass(error: Exception) -> bool:
    """Whether an error may pass by itself: too many open files or a full device may, a broken file does not."""
    return isinstance(error, OSError | MemoryError | Unavailable) or isinstance(error.__cause__, OSError)
