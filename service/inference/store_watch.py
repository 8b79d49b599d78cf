"""Store watch: reads the store again and again, and tells what was removed from what cannot be read now.

A version that is served stays until the store is read without it: not while the store or a folder cannot be read, and
not when all versions vanish at once, as they do when a volume is not mounted. A version never changes: caches keep its
answers for a year. So other files under the number of a served version are reported, and are not served. Aliases that
cannot be read stay as they were read last.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from model_store import (
    Aliases,
    Calibration,
    Card,
    ModelVersion,
    NoDefault,
    Store,
    StoreError,
    UnusableAliases,
    UnusableDefault,
)
from model_store.places.folder import Fingerprint, Listing

ALL_GONE = (
    "The store has no versions any more. The models that are served stay until a version is published, "
    "or until the service is restarted."
)


class ChangedVersion(ValueError):
    """Other weights have the number of a version that was served."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__(
            f"{version} had other weights when it was served before, and a version never changes. "
            "Rename its folder to a number that was never used, or restart the service."
        )


class Reading(NamedTuple):
    """The content of a store at one moment: the default model or the reason for having none, and the versions.

    `aliases` has the versions that each `name@alias` has named, the present one last; `unusable_aliases` has for each
    model whose aliases cannot be read the reason. `misplaced` are the folders that look like versions and are not;
    `warnings` is what an operator must mend.
    """

    default: str | StoreError
    aliases: dict[str, list[ModelVersion]]
    unusable_aliases: dict[str, UnusableAliases]
    versions: list[ModelVersion]
    misplaced: dict[str, str]
    warnings: list[str]


class ReadCalibration(NamedTuple):
    """A calibration by its name, as it was read last; the numbers of its file, and the fault that the file has now."""

    name: str
    identity: tuple[int, ...] | None
    calibration: Calibration | None
    fault: str | None


class StoreWatch:
    """Reads one store. `default_model` is the setting; without it the store says which model is the default."""

    def __init__(self, store: Store, default_model: str | None) -> None:
        self._store = store
        self._default_setting = default_model
        self._default: str | StoreError = default_model or NoDefault([])
        self._aliases: dict[str, Aliases] = {}  # by the name of the model
        self._unusable_aliases: dict[str, UnusableAliases] = {}
        self._cards: dict[ModelVersion, Card] = {}  # of every version that was ever served
        self._files: dict[ModelVersion, Fingerprint] = {}
        self._changed: dict[ModelVersion, str] = {}
        self._hidden: dict[ModelVersion, str] = {}  # served versions that cannot be read now, each with its folder
        self._calibrations: dict[ModelVersion, dict[str, ReadCalibration]] = {}

    def read(self, served: Collection[ModelVersion]) -> Reading:
        """Read the store. Versions that are `served` and may still be there are among the versions.

        The default is read first, and then the aliases. If a model is published and named by them between two reads,
        the versions that are read later have it.

        Raises:
            StoreNotFound: the store does not exist.
            OSError: it cannot be read.
        """
        default, (aliases, unusable) = self._read_default(), self._store.aliases()
        listing = self._store.listing()
        misplaced = self._store.misplaced()
        hidden = self._hidden = {version: path for version in served if (path := _unreadable(version, listing))}
        if served and not (listing.versions or hidden):
            self._hidden = dict.fromkeys(served, "")
            return self._reading(self._default, served, misplaced, [ALL_GONE])
        self._unusable_aliases = unusable
        self._aliases = aliases | {name: self._aliases[name] for name in unusable if name in self._aliases}
        warnings = [
            f"{path} cannot be read ({listing.unreadable[path]}). Its versions that are served stay."
            for path in sorted(set(hidden.values()))
        ]
        if isinstance(default, UnusableDefault) and isinstance(default.__cause__, OSError) and served:
            warnings.append(f"{default} The default model from before stays.")
            default = self._default
        self._default = default
        there = sorted(set(served) & set(listing.versions))
        warnings += [change for version in there if (change := self._change(version))]
        warnings += [f"{fault} Until then the aliases from before stay." for fault in self._unusable_aliases.values()]
        return self._reading(default, {*listing.versions, *hidden}, misplaced, warnings)

    def _reading(
        self,
        default: str | StoreError,
        versions: Collection[ModelVersion],
        misplaced: dict[str, str],
        warnings: list[str],
    ) -> Reading:
        """A reading with the aliases of this time, or of the last time if all versions have vanished."""
        aliases = {
            f"{name}@{alias}": [ModelVersion(name, number) for number in history]
            for name, of_model in self._aliases.items()
            for alias, history in of_model.aliases.items()
        }
        return Reading(default, aliases, self._unusable_aliases, sorted(versions), misplaced, warnings)

    def calibrations(self, version: ModelVersion) -> list[ReadCalibration]:
        """The calibrations of a version. A file is read when it has changed.

        A calibration that cannot be read any more stays as it was read last, and so do all of them while the version
        cannot be read.

        Raises:
            OSError: they cannot be listed.
        """
        before = self._calibrations.get(version, {})
        if version in self._hidden:
            return list(before.values())
        found: dict[str, ReadCalibration] = {}
        for name, identity in self._store.calibrations(version).items():
            known = before.get(name)
            if known is None or known.identity != identity or known.fault:
                known = self._read_calibration(version, name, identity, known)
            found[name] = known
        self._calibrations[version] = found
        return list(found.values())

    def forget_calibrations(self, but_of: Collection[ModelVersion]) -> None:
        """Forget the calibrations of versions that are not served any more."""
        self._calibrations = {version: self._calibrations.get(version, {}) for version in but_of}

    def _read_calibration(
        self, version: ModelVersion, name: str, identity: tuple[int, ...] | None, before: ReadCalibration | None
    ) -> ReadCalibration:
        try:
            return ReadCalibration(name, identity, self._store.calibration(version, name), None)
        except StoreError as error:
            return ReadCalibration(name, identity, before.calibration if before else None, str(error))

    def check(self, version: ModelVersion, card: Card, files: Fingerprint) -> None:
        """Remember the card of a version that is going to be served, and the files that it was read from.

        Raises:
            ChangedVersion: the version was served with other weights before.
        """
        if self._cards.setdefault(version, card).weights != card.weights:
            raise ChangedVersion(version)
        self._cards[version], self._files[version] = card, files
        self._changed.pop(version, None)

    def _read_default(self) -> str | StoreError:
        if self._default_setting:
            return self._default_setting
        try:
            return self._store.default()
        except (NoDefault, UnusableDefault) as error:
            return error

    def _change(self, version: ModelVersion) -> str | None:
        """The change of a served version, or None. Its files are hashed when their times change."""
        try:
            files = self._store.fingerprint(version)
            if files != self._files[version] and any(files):  # without files, the version was removed a moment ago
                if self._store.holds(version, self._cards[version]):
                    self._changed.pop(version, None)
                else:
                    self._changed[version] = (
                        f"{version} was changed in the store, but a version never changes: its files from before are "
                        "still served. Put them back, and publish the new ones under a number of their own."
                    )
                self._files[version] = files
        except (StoreError, OSError) as error:
            return f"{version} cannot be read any more, and is still served: {error}"
        return self._changed.get(version)


def _unreadable(version: ModelVersion, listing: Listing) -> str | None:
    """The folder that hides a version which is not listed; None if the version is listed or was removed."""
    if version in listing.versions:
        return None
    return next(
        (path for path in (version.name, f"{version.name}/{version.number}") if path in listing.unreadable), None
    )
