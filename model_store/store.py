"""Store: lists versions of models, finds the version that a reference names, publishes, copies and deletes versions.

Versions are whole numbers and never change; a number is never given twice. A version appears whole or not at all, since
it is read back before readers can see it. An alias names another version when it is moved. The modules of `places` read
and write the files.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path

from . import weights
from .aliases import MAX_ALIASES_BYTES, Aliases, parse_aliases
from .calibration import MAX_CALIBRATION_BYTES, MAX_CALIBRATIONS, Calibration, parse_calibration
from .card import (
    MAX_CARD_BYTES,
    Card,
    FitSummary,
    LatentSummary,
    Metric,
    Source,
    TrainingSummary,
    WeightsSummary,
    parse_card,
)
from .errors import (
    CannotChooseDefault,
    CannotDelete,
    CorruptWeights,
    ModelNotFound,
    NoDefault,
    OtherFamily,
    StoreError,
    TooManyCalibrations,
    UnknownFormat,
    UnusableAliases,
    UnusableCalibration,
    UnusableDefault,
)
from .families import Network
from .free_memory import memory_shortage
from .places.folder import CARD, Fingerprint, Folder, Listing, VersionFolder
from .score_statistics import ScoreQuantiles
from .vae import VAE
from .version import ModelVersion, check_alias, check_name, is_name, newest, parse_reference

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

    @property
    def vae(self) -> VAE:
        """The network, for programs that need its prior and likelihood.

        Raises:
            OtherFamily: it is of another family.
        """
        if not isinstance(self.model, VAE):
            raise OtherFamily(self.version, self.model.config.family)
        return self.model


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
        """The version that `name@version` or `name@alias` names, or the newest version of the model `name`.

        Raises:
            InvalidName: the reference has none of these forms.
            ModelNotFound: there is no such version, or no such alias.
            UnusableAliases: the aliases of the model cannot be read.
        """
        named = self._without_alias(reference)  # before the versions: an alias is moved to a version that is there
        versions = self.versions()
        try:
            return newest(named, versions)
        except ModelNotFound:
            inside = f"{reference.partition('@')[0]}/"
            reasons = [f"{reference} names {named}"] if named != reference else []
            reasons += [f"{path}: {why}" for path, why in self.misplaced().items() if f"{path}/".startswith(inside)]
            raise ModelNotFound(reference, versions, *reasons) from None

    def _without_alias(self, reference: str) -> str:
        """The reference, with the number of the version in the place of an alias."""
        name, end = parse_reference(reference)
        if not isinstance(end, str):
            return reference
        if (number := self.aliases_of(name).number_of(end)) is None:
            hint = f"{end} is not an alias of {name}: python -m model_store alias {name} lists its aliases"
            raise ModelNotFound(reference, self.versions(), hint)
        return str(ModelVersion(name, number))

    def aliases(self) -> tuple[dict[str, Aliases], dict[str, UnusableAliases]]:
        """The aliases of each model that has some; and for each model whose aliases cannot be read, the reason.

        Raises:
            StoreNotFound: the store does not exist.
            OSError: it cannot be read.
        """
        found: dict[str, Aliases] = {}
        faults: dict[str, UnusableAliases] = {}
        for name in self._place.models_with_aliases():
            try:
                found[name] = self.aliases_of(name)
            except UnusableAliases as error:
                faults[name] = error
        return found, faults

    def aliases_of(self, name: str) -> Aliases:
        """The aliases of a model.

        Raises:
            UnusableAliases: they cannot be read.
        """
        file = self._place.aliases_file(name)
        try:
            content = self._place.read_aliases(name, MAX_ALIASES_BYTES)
        except OSError as error:
            raise UnusableAliases(file, error.strerror or str(error)) from error
        return Aliases() if content is None else parse_aliases(file, content)

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Let an alias name a version. The alias is new, or is moved and remembers the version before.

        Raises:
            InvalidAlias: no version can have that alias.
            ModelNotFound, UnknownFormat, CorruptWeights: the version is not there, or cannot be read.
            TooManyAliases, UnusableAliases: the model cannot have another alias.
            OSError: the store cannot be written.
        """
        check_alias(alias)
        self.load(self.resolve(str(version)))

        def move(aliases: Aliases) -> Aliases:
            self.resolve(str(version))  # again, since it may have been deleted
            return aliases.moved(version.name, alias, version.number)

        self._change_aliases(version.name, move)

    def roll_back(self, name: str, alias: str) -> ModelVersion:
        """Let an alias name the version that it named before, and return that version.

        Raises:
            AliasNotFound, NoEarlierVersion: there is no such alias, or no version before.
            UnusableAliases: the aliases cannot be read.
            OSError: the store cannot be written.
        """
        self.alias_history(name, alias)

        def back(aliases: Aliases) -> Aliases:
            return aliases.rolled_back(name, alias, {version.number for version in self.versions(name)})

        return ModelVersion(name, self._change_aliases(name, back).history(name, alias)[-1])

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias, with the versions that it has named before.

        Raises:
            AliasNotFound: there is no such alias.
            UnusableAliases: the aliases cannot be read.
            OSError: the store cannot be written.
        """
        self.alias_history(name, alias)
        self._change_aliases(name, lambda aliases: aliases.without(alias))

    def alias_history(self, name: str, alias: str) -> list[ModelVersion]:
        """The versions that an alias has named, the present one last; some may not be in the store any more.

        Raises:
            AliasNotFound: there is no such alias.
            UnusableAliases: the aliases cannot be read.
        """
        return [ModelVersion(name, number) for number in self.aliases_of(name).history(name, alias)]

    def _change_aliases(self, name: str, change: Callable[[Aliases], Aliases]) -> Aliases:
        """Write what `change` makes of the aliases of a model. Commands for one model wait for each other."""
        with self._place.lock(name):
            aliases = change(self.aliases_of(name))
            self._place.write_aliases(name, aliases.to_json())
        return aliases

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
        """Make `name`, `name@version` or `name@alias` the default model, for every reader of this store.

        Raises:
            InvalidName, ModelNotFound: there is no such model.
            CannotChooseDefault: no version of it can be read, or the store cannot be written.
        """
        self.resolve(reference)
        name, number = parse_reference(self._without_alias(reference))
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

    def calibrations(self, version: ModelVersion) -> dict[str, tuple[int, ...] | None]:
        """The names of a version's calibrations, each with numbers that change when its file does.

        Raises:
            OSError: they cannot be listed.
        """
        return self._place.calibrations(version)

    def calibration(self, version: ModelVersion, name: str) -> Calibration:
        """A calibration of a version.

        Raises:
            UnusableCalibration: it is not there, cannot be read, or belongs to other weights.
            UnknownFormat: the card of the version cannot be read.
        """
        file = self._place.calibration_file(version, name)
        try:
            content = self._place.read_calibration(version, name, MAX_CALIBRATION_BYTES)
        except OSError as error:
            raise UnusableCalibration(file, error.strerror or str(error)) from error
        found = parse_calibration(file, content)
        card = self.card(version)
        if found.weights_sha256 != card.weights.sha256:
            raise UnusableCalibration(file, f"it belongs to other weights than {version} has")
        values = prod(card.model.example_latent_shape)
        if found.latents and {len(found.latents.mean), len(found.latents.standard_deviation)} != {values}:
            raise UnusableCalibration(file, f"its latents must have {values} values, as latents of {version} have")
        return found

    def add_calibration(self, version: ModelVersion, name: str, calibration: Calibration) -> Path:
        """Write a calibration beside a version, or replace the one of that name; returns its file.

        Raises:
            InvalidName: no calibration can have that name.
            ModelNotFound: there is no such version.
            TooManyCalibrations: the version cannot have another.
            OSError: the store cannot be written.
        """
        with self._place.lock(version.name):
            self.check_calibration(version, name)
            self._place.write_calibration(version, name, calibration.to_json())
        return self._place.calibration_file(version, name)

    def check_calibration(self, version: ModelVersion, name: str) -> None:
        """Check that a calibration of that name can be written, before images are measured for it.

        Raises:
            InvalidName: no calibration can have that name.
            ModelNotFound: there is no such version.
            TooManyCalibrations: the version cannot have another.
            OSError: the store cannot be written.
        """
        check_name(name)
        self.resolve(str(version))
        others = self._place.calibrations(version).keys() - {name}
        if len(others) >= MAX_CALIBRATIONS:
            raise TooManyCalibrations(version, MAX_CALIBRATIONS, self._place.calibration_file(version, name).parent)
        self._place.try_to_write_calibration(version)

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
        preview: str | None = None,
        training: TrainingSummary | None = None,
        fit: FitSummary | None = None,
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
            preview=preview,
            training=training,
            fit=fit,
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

    def copy(self, version: ModelVersion, target: Store, name: str | None = None) -> ModelVersion:
        """Copy a version into another store, or into this one, as the next version of `name`, else of its own name.

        Its calibrations that can be read are copied too. The copy is read back before readers can see it. A store that
        is not there is made. Files and folders whose names begin with `.` or `_` are left out.

        Raises:
            InvalidName: no model can have that name.
            UnknownFormat, CorruptWeights: the version cannot be read, or the copy does not read back.
            NoNumberLeft, UnusableNumber, VersionExists: the other store cannot give the copy a number.
            OSError: a file cannot be read or written; a version has only regular files.
        """
        name, source = check_name(name or version.name), self._place.files(version)
        with target._place.lock(name):
            copy = target._place.next_version(name)
            with target._place.incoming(copy, source.paths()) as incoming:
                try:
                    _read(incoming, copy)
                except StoreError:
                    self.load(version)  # if the fault is in the original, the message names its files
                    raise
        self.copy_calibrations(version, target, copy)
        return copy

    def copy_calibrations(self, version: ModelVersion, target: Store, copy: ModelVersion) -> None:
        """Copy the calibrations of a version that can be read to a version with the same weights, in any store.

        Raises:
            OSError: a calibration cannot be written.
        """
        for name in self._place.calibrations(version):
            with suppress(UnusableCalibration):
                target.add_calibration(copy, name, self.calibration(version, name))

    def delete(self, version: ModelVersion, *, force: bool = False) -> None:
        """Delete a version for good: its number is not given again. A reader that has opened its files reads on.

        With `force`, the aliases that name it are removed too, and the default model may lose its version.

        Raises:
            ModelNotFound: there is no such version.
            CannotDelete: an alias or the default model names the version.
            UnusableAliases, UnusableNumber: a file about the model cannot be read.
            OSError: the version cannot be removed, or not all of its files.
        """
        self.resolve(str(version))
        name, number = version
        with self._place.lock(name):
            aliases = self.aliases_of(name)
            if (naming := aliases.naming(number)) and not force:
                named = ", ".join(f"{name}@{alias}" for alias in naming)
                move = f"python -m model_store alias {name}@VERSION {naming[0]}"
                remedy = f"Let the alias name another version: {move}; or repeat with --force, which removes it"
                raise CannotDelete(str(version), f"it is {named}", remedy)
            if self._is_default(version) and not force:
                remedy = "Choose another first: python -m model_store default NAME; or repeat with --force"
                raise CannotDelete(str(version), "it is the default model", remedy)
            if naming:
                self._place.write_aliases(name, aliases.without(*naming).to_json())
            self._place.remove(version)

    def _is_default(self, version: ModelVersion) -> bool:
        """Whether the default model is this very version, by its number."""
        with suppress(StoreError):  # without a usable default, no version is the default
            return self.default() == str(version)
        return False

    def consequences(self, version: ModelVersion) -> list[str]:
        """The losses of readers of the store if a version were deleted, in sentences."""
        name, number = version
        others = [other for other in self.versions(name) if other != version]
        naming = [f"{name}@{alias}" for alias in self.aliases_of(name).naming(number)]
        told = [f"{alias} would name nothing." for alias in naming]
        with suppress(StoreError):  # a store without a default has none to lose
            default = self.default()
            if default in (str(version), *naming) or (default == name and not others):
                told.append(f"The default model {default} would be missing: requests that name no model would get 404.")
        if not others:
            told.append(f"{name} would have no version.")
        elif others[-1] < version:
            told.append(f"{name} would then mean {others[-1]}.")
        return told

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
