"""Store: lists the versions of models, finds the version that a reference names, and publishes new versions.

Versions are whole numbers and never change; a number is never given twice. A version appears whole or not at all, since
it is read back before readers can see it. The modules of `places` read and write the files.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import weights
from .card import (
    MAX_CARD_BYTES,
    Card,
    LatentSummary,
    Metric,
    ScoreQuantiles,
    Source,
    TrainingSummary,
    WeightsSummary,
    parse_card,
)
from .errors import (
    CannotChooseDefault,
    CorruptWeights,
    ModelNotFound,
    NoDefault,
    StoreError,
    UnknownFormat,
    UnusableDefault,
)
from .families import Network
from .free_memory import memory_shortage
from .places.folder import CARD, Fingerprint, Folder, Listing, VersionFolder
from .version import ModelVersion, check_name, is_name, newest, parse_reference

DEFAULT_ROOT = Path(__file__).parent / "models"

_WEIGHTS = "weights.safetensors"
_RUN = "run.txt"
_MAX_RUN_BYTES = 1000


@dataclass(frozen=True)
class StoredModel:
    """A version read from the store: its card, and the network with its weights."""

    version: ModelVersion
    card: Card
    model: Network


def store_folder(name: str | Path = "") -> Path:
    """The folder of the store: `name`, else `LATENTD_STORE`, else the folder of the models that ship.

    An empty text counts as not set: `Path("")` would be the current folder. All commands take their default from here.
    """
    return Path(name or os.environ.get("LATENTD_STORE") or DEFAULT_ROOT)


class Store:
    """The models in a folder. It holds no state: every answer is read from the folder."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root
        self._place = Folder(root)

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, or the versions of one model, in order.

        Raises:
            StoreNotFound: the store does not exist.
            OSError: it cannot be read.
        """
        return self._place.listing(name).versions

    def listing(self) -> Listing:
        """All versions in order, and the models and versions that are there but cannot be read now.

        Raises:
            StoreNotFound: the store does not exist.
            OSError: it cannot be read.
        """
        return self._place.listing()

    def misplaced(self) -> dict[str, str]:
        """Folders that look like models or versions and are not, by their path in the store, each with the reason.

        Raises:
            OSError: the store cannot be read.
        """
        return self._place.misplaced()

    def resolve(self, reference: str) -> ModelVersion:
        """The version that `name@version` names, or the newest version of the model `name`.

        Raises:
            InvalidName: the reference has neither form.
            ModelNotFound: there is no such version.
        """
        versions = self.versions()
        try:
            return newest(reference, versions)
        except ModelNotFound:
            inside = f"{reference.partition('@')[0]}/"
            reasons = [f"{path}: {why}" for path, why in self.misplaced().items() if f"{path}/".startswith(inside)]
            raise ModelNotFound(reference, versions, *reasons) from None

    def default(self) -> str:
        """The model that `choose_default` has named, else the only model of the store.

        A model that cannot be used counts too: otherwise another model would become the default when it breaks.

        Raises:
            NoDefault: no model was chosen, and the store has several models or none.
            UnusableDefault: the file that names the default cannot be read, or does not name a model.
        """
        try:
            content = self._place.read_default()
            if content is not None:
                reference = content.decode().strip()
                parse_reference(reference)
                return reference
        except OSError as error:
            raise UnusableDefault(self._place.default_file, error.strerror or str(error)) from error
        except ValueError as error:
            raise UnusableDefault(self._place.default_file, "it holds something else") from error
        published = {version.name for version in self.versions()}
        names = published | {name for path in self.misplaced() if is_name(name := path.partition("/")[0])}
        if len(names) != 1:
            raise NoDefault(published)
        return names.pop()

    def choose_default(self, reference: str) -> None:
        """Make `name` or `name@version` the default model, for every reader of this store.

        Raises:
            InvalidName, ModelNotFound: there is no such model.
            CannotChooseDefault: no version of it can be read, or the store cannot be written.
        """
        self.resolve(reference)
        name, number = parse_reference(reference)
        versions = [version for version in self.versions(name) if number in (None, version.number)]
        if not any(self._is_sound(version) for version in reversed(versions)):
            raise CannotChooseDefault(
                reference,
                "it must have a version that can be read; python -m model_store verify names the faults to mend",
            )
        try:
            self._place.write_default(f"{reference}\n")
        except OSError as error:
            remedy = "move away a folder in its place, change the permissions, or free space"
            reason = f"the file {self._place.default_file} must be written ({error.strerror}); {remedy}"
            raise CannotChooseDefault(reference, reason) from error

    def _is_sound(self, version: ModelVersion) -> bool:
        try:
            self.load(version)
        except StoreError:
            return False
        return True

    def folder(self, version: ModelVersion) -> Path:
        """The folder of a version's files."""
        return self._place.files(version).path

    def fingerprint(self, version: ModelVersion) -> Fingerprint:
        """The inode, size and times of the card and the weights of a version, which change when the files do.

        Raises:
            OSError: the folder of the version cannot be read.
        """
        return self._place.fingerprint(version, (CARD, _WEIGHTS))

    def holds(self, version: ModelVersion, card: Card) -> bool:
        """Whether the files of a version still are this card and its weights. The weights are read in pieces.

        Raises:
            UnknownFormat: the card cannot be read.
            OSError: the weights cannot be read, or are larger than the card says.
        """
        files = self._place.files(version)
        return _read_card(files) == card and files.sha256(_WEIGHTS, card.weights.bytes) == card.weights.sha256

    def card(self, version: ModelVersion) -> Card:
        """The card of a version.

        Raises:
            UnknownFormat: it cannot be read, or this release does not know it.
        """
        return _read_card(self._place.files(version))

    def load(self, version: ModelVersion) -> StoredModel:
        """A version, checked: card, hash, tensors.

        Raises:
            UnknownFormat: the card cannot be read, or this release does not know it.
            CorruptWeights: the tensors cannot be read, or do not fit the card.
        """
        return _read(self._place.files(version), version)

    def prepare(self, name: str) -> None:
        """Try to write where `publish` will write, so that a read-only store is found before a long training.

        Raises:
            InvalidName: no model can have that name.
            OSError: the store cannot be written.
        """
        self._place.try_to_write(check_name(name))

    def publish(
        self,
        name: str,
        model: Network,
        *,
        source: Source | None = None,
        training: TrainingSummary | None = None,
        metrics: Sequence[Metric] = (),
        latents: LatentSummary | None = None,
        scores: ScoreQuantiles | None = None,
        warnings: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        run: str | None = None,
    ) -> ModelVersion:
        """Write a model as the next version of `name`, with further `files` beside it.

        With the name of a `run`, which must be unique, the model is published once: if the store has a version of that
        run, that version is returned. Publishers of one model wait for each other; readers never wait and never see
        half a version.

        Raises:
            InvalidName: no model can have that name.
            VersionExists: another file or folder has the version's path.
            CorruptWeights: the written version does not read back, for instance because the disk is full.
        """
        check_name(name)
        content = weights.to_bytes(model)
        card = Card(
            created=datetime.now(UTC).replace(microsecond=0),
            model=model.config,
            weights=WeightsSummary(
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                parameters=weights.count_parameters(model),
            ),
            source=source,
            training=training,
            metrics=tuple(metrics),
            latents=latents,
            scores=scores,
            warnings=tuple(warnings),
        )
        written_by = {} if run is None else {_RUN: f"{run}\n".encode()}
        everything = {**(files or {}), **written_by, _WEIGHTS: content, CARD: card.to_json().encode()}
        with self._place.lock(name):
            if run is not None and (published := self.published_by(name, run)):
                return published
            version = self._place.next_version(name)
            with self._place.incoming(version, everything) as incoming:
                _read(incoming, version)
        return version

    def published_by(self, name: str, run: str) -> ModelVersion | None:
        """The version of a model that a run has published, or None.

        Raises:
            StoreNotFound: the store does not exist.
            OSError: it cannot be read.
        """
        for version in self.versions(name):
            with suppress(OSError):  # of versions that no run has published
                if self._place.files(version).read(_RUN, _MAX_RUN_BYTES).decode(errors="replace").strip() == run:
                    return version
        return None


def _read(files: VersionFolder, version: ModelVersion) -> StoredModel:
    card, path = _read_card(files), files.path / _WEIGHTS
    model = weights.expected(path, card)
    try:
        if shortage := memory_shortage(2 * card.weights.bytes):  # the content and the tensors made of it
            raise OSError(errno.ENOMEM, f"to read them {shortage}")
        content = files.read(_WEIGHTS, card.weights.bytes)
    except OSError as error:
        raise CorruptWeights(path, error.strerror or str(error)) from error
    return StoredModel(version, card, weights.filled(model, path, content, card))


def _read_card(files: VersionFolder) -> Card:
    path = files.path / CARD
    try:
        return parse_card(path, files.read(CARD, MAX_CARD_BYTES))
    except OSError as error:
        raise UnknownFormat(path, error.strerror or str(error)) from error
