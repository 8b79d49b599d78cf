"""The versions and folders of a store that are not served, and why. Each is logged and counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from model_store import ModelVersion, parse_reference

from ..errors import Unavailable

REASONS = 3  # in one message; /v1/models lists all

log = structlog.get_logger()


class Refusal(NamedTuple):
    """Why a version is not served. It is tried again when its files change; at every refresh if the reason may pass."""

    files: object
    reason: str
    may_pass: bool


class Refusals:
    """The versions and folders that a registry refuses, in the store at `root`.

    `count` is called with the name of each refused model.

    Attributes:
        misplaced: folders that look like versions and are not: the reason, by the path in the store.
    """

    def __init__(self, root: Path, count: Callable[[str], None]) -> None:
        self._root = root
        self._count = count
        self._by_version: dict[ModelVersion, Refusal] = {}
        self.misplaced: dict[str, str] = {}

    @property
    def reasons(self) -> dict[ModelVersion, str]:
        """The reason why each version is refused, for clients."""
        return {
            version: without_path(refusal.reason, self._root) for version, refusal in sorted(self._by_version.items())
        }

    def find(self, version: ModelVersion) -> Refusal | None:
        """The refusal of a version, or None."""
        return self._by_version.get(version)

    def refuse(self, version: ModelVersion, refusal: Refusal) -> None:
        """Remember why a version is refused."""
        if refusal == self._by_version.get(version):
            return
        self._by_version[version] = refusal
        self._count(version.name)
        log.error("version refused", model=str(version), reason=refusal.reason)

    def note_misplaced(self, misplaced: dict[str, str]) -> None:
        """Remember the misplaced folders, in place of those that were known."""
        for path in misplaced.keys() - self.misplaced.keys():
            self._count(path.partition("/")[0])
            log.error("version refused", folder=path, reason=misplaced[path])
        self.misplaced = misplaced

    def forget(self, version: ModelVersion) -> None:
        """Forget the refusal of a version that is served now."""
        self._by_version.pop(version, None)

    def keep_only(self, versions: Iterable[ModelVersion]) -> None:
        """Forget the refusals of all other versions."""
        for version in self._by_version.keys() - set(versions):
            del self._by_version[version]

    def of(self, reference: str) -> list[str]:
        """The first reasons for refusing versions of a reference, without full stops at the end."""
        name, number = parse_reference(reference)
        reasons = [
            f"{version}: {reason}"
            for version, reason in self.reasons.items()
            if version.name == name and number in (None, version.number)
        ]
        reasons += [f"{path}: {reason}" for path, reason in self.misplaced.items() if path.partition("/")[0] == name]
        return [reason.rstrip(".") for reason in reasons[:REASONS]]

    def summary(self) -> str:
        """Why no model of the store is served, for an error message."""
        reasons = [f"{what}: {reason}" for what, reason in [*self.misplaced.items(), *self.reasons.items()]]
        if not reasons:
            return "The store has no models. A model that is published into it is served without a restart."
        shown = "; ".join(reason.rstrip(".") for reason in reasons[:REASONS])
        more = f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
        return f"The store has no model that can be served. {shown}{more}."


def without_path(reason: str, root: Path) -> str:
    """The reason without the path of the store, which clients must not learn."""
    return reason.replace(f"{root}/", "").replace(str(root), "LATENTD_STORE")


def may_pass(error: Exception) -> bool:
    """Whether an error may pass by itself: too many open files or a full device may, a broken file does not."""
    return isinstance(error, OSError | MemoryError | Unavailable) or isinstance(error.__cause__, OSError)
