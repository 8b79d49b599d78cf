"""Registry: the models that are served now, kept in step with the store.

A version is read and warmed up before anyone is sent to it, and one that cannot be read is refused while the others
stay. Requests are answered from memory: a name in a request never becomes a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from datetime import datetime
from itertools import groupby
from typing import NamedTuple, Protocol

import structlog

from model_store import ModelNotFound, ModelVersion, StoreError, parse_reference

from ..errors import ServiceError, Starting
from .loader import Loader, ServedModel

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
        self._default = default_model
        self._versions_per_model = versions_per_model
        self._served: dict[ModelVersion, ServedModel] = {}
        self._found: dict[str | None, ServedModel] = {}  # by reference, until something changes
        self._refused: dict[ModelVersion, Refusal] = {}
        self._leaving: dict[ModelVersion, weakref.ref[ServedModel]] = {}  # while requests may have them
        self._looking = asyncio.Lock()  # it belongs to no event loop until two tasks want it
        self._oldest: str | None = None
        self._refreshed = False

    @property
    def served(self) -> list[ServedModel]:
        """All models that answer, by name and version."""
        return [self._served[version] for version in sorted(self._served)]

    @property
    def refused(self) -> dict[ModelVersion, str]:
        """Published versions that are not served, and why."""
        inside = f"{self._store.root}/"  # where the store is, is nobody's business
        return {version: refusal.reason.replace(inside, "") for version, refusal in sorted(self._refused.items())}

    @property
    def is_ready(self) -> bool:
        """Whether a request for the default model would be answered."""
        try:
            self.find(None)
        except (StoreError, ServiceError):
            return False
        return not self.device.lost

    def find(self, reference: str | None) -> ServedModel:
        """The model that `name` (its newest version) or `name@version` stands for; None is the default model.

        Raises:
            InvalidName, ModelNotFound: there is none.
            Starting: the store has not been read yet.
        """
        if reference in self._found:
            return self._found[reference]
        if not self._refreshed:
            raise Starting
        found = self._search(reference or self._default or self._oldest)
        if reference in (None, found.version.name, str(found.version)):  # of a few spellings, not of all there are
            self._found[reference] = found
        return found

    def _search(self, reference: str | None) -> ServedModel:
        if not reference:
            raise ModelNotFound("to serve", [])
        name, number = parse_reference(reference)
        found = [version for version in self._served if version.name == name and number in (None, version.number)]
        if not found:
            raise ModelNotFound(reference, sorted(self._served))
        return self._served[max(found)]

    async def refresh(self) -> None:
        """Serve what is new in the store, stop serving what is gone from it; one look after the other.

        Raises:
            StoreNotFound: the store's folder is not there; what is served stays.
        """
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        published = await asyncio.to_thread(self._store.versions)
        wanted: set[ModelVersion] = set()
        for _, versions in groupby(published, key=lambda version: version.name):
            wanted.update(await self._serve_newest(list(versions)))
        if not self._refreshed:
            log.info("ready", models=[str(version) for version in sorted(self._served)])
        self._refreshed = True
        for version in self._refused.keys() - set(published):
            del self._refused[version]
        self._part_with(self._served.keys() - wanted)
        self._oldest = await asyncio.to_thread(self._published_first, {version.name for version in self._served})
        self._found.clear()

    def _part_with(self, versions: set[ModelVersion]) -> None:
        """Serve these no longer; those that left before are gone when no request has them any more."""
        for version in [version for version, model in self._leaving.items() if model() is None]:
            del self._leaving[version]
            self._events.version_left(str(version))
        for version in versions:
            self._leaving[version] = weakref.ref(self._served.pop(version))
            log.info("no longer serving", model=str(version))

    async def keep(self, every_s: float) -> None:
        """Refresh now and then every so often, or only now if that is 0; whatever goes wrong is logged."""
        while True:
            try:
                await self.refresh()
            except (StoreError, OSError) as error:
                log.warning("store cannot be read", reason=str(error))
            except Exception:  # the next look may succeed, and nobody would hear of a task that has ended
                log.exception("store cannot be read")
            if not every_s:
                return
            await asyncio.sleep(every_s)

    def _published_first(self, names: set[str]) -> str | None:
        """Which of the models was published first, so that a further one never takes the place of the default."""
        began = {name: created for name in sorted(names) if (created := self._began(name))}
        return min(began, key=lambda name: began[name], default=None)

    def _began(self, name: str) -> datetime | None:
        """When the oldest version of a model was published whose card can be read."""
        for version in self._store.versions(name):
            with contextlib.suppress(StoreError):
                return self._store.card(version).created
        return min((served.card.created for served in self.served if served.version.name == name), default=None)

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
        log.info("serving", model=str(version), device=str(self.device), runtime=self.device.runtime)
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
    return not isinstance(error, StoreError) or isinstance(error.__cause__, OSError)
