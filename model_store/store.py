"""Store: a shelf of models in a folder, `<store>/<name>/<version>/{card.json, weights.safetensors, …}`.

Versions are whole numbers and immutable. One appears whole or not at all: it is written beside the others under a name
that readers ignore, read back, and renamed in one step. A publisher that is killed leaves nothing but such a folder,
which the next one removes. Models and versions may be links to folders. Names that begin with `.` or `_` are ignored;
one of them, the file `_default`, names the default model.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import weights
from .card import Card, LatentSummary, Metric, ScoreQuantiles, TrainingSummary, WeightsSummary, read_card
from .errors import InvalidName, ModelNotFound, NoDefault, StoreNotFound, UnusableDefault, VersionExists
from .files import read_file
from .vae import VAE
from .version import ModelVersion, check_name, is_name, is_number, newest, parse_reference

DEFAULT_ROOT = Path(__file__).parent / "models"

_CARD = "card.json"
_WEIGHTS = "weights.safetensors"
_DEFAULT = "_default"  # with a name that no model can have
_MAX_DEFAULT_BYTES = 1000
_FILE_MODE = 0o444
_FOLDER_MODE = 0o755
_SHARED_FILE_MODE = 0o644
_SET_ASIDE = (".", "_")  # how names begin that readers ignore


@dataclass(frozen=True)
class StoredModel:
    """A version read from the store: its card, and the network with its weights."""

    version: ModelVersion
    card: Card
    model: VAE


def store_folder(name: str | Path = "") -> Path:
    """Return the folder of the store: `name`, else `LATENTD_STORE`, else the models that ship.

    An empty text counts as not set: `Path("")` would be the current folder. All commands take their default from here.
    """
    return Path(name or os.environ.get("LATENTD_STORE") or DEFAULT_ROOT)


class Store:
    """The models in a folder. It holds no state: every question is answered by what is on the disk now."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, or those of one model, in order.

        Raises:
            StoreNotFound: the store's folder is not there.
            OSError: it cannot be read.
        """
        if not self.root.is_dir():
            raise StoreNotFound(self.root)
        names = [folder for folder in os.listdir(self.root) if is_name(folder)] if name is None else [name]
        return sorted(
            ModelVersion(name, int(number))
            for name in names
            for number in filter(is_number, _folders(self.root / name))
        )

    def misplaced(self) -> dict[str, str]:
        """Models and versions that nobody can ask for, by their path in the store, each with the reason.

        Raises:
            OSError: the store cannot be read.
        """
        found: dict[str, str] = {}
        if (self.root / _CARD).is_file():
            found["."] = "the store is the folder of one version; name the folder two levels above it as the store"
        for name in sorted(os.listdir(self.root)):
            found.update(_misplaced(self.root, name))
        return found

    def resolve(self, reference: str) -> ModelVersion:
        """The version that `name@version`, or the newest that `name`, stands for.

        Raises:
            InvalidName: the reference is neither of both.
            ModelNotFound: there is none.
        """
        versions = self.versions()
        try:
            return newest(reference, versions)
        except ModelNotFound:
            inside = f"{reference.partition('@')[0]}/"
            reasons = [f"{path}: {why}" for path, why in self.misplaced().items() if f"{path}/".startswith(inside)]
            raise ModelNotFound(reference, versions, *reasons) from None

    def default(self) -> str:
        """The model that `choose_default` has named, else the only model there is.

        A model that cannot be used counts too: if it did not, another one would become the default when it breaks.

        Raises:
            NoDefault: none was chosen, and there are several models or none.
            UnusableDefault: the file that names it cannot be read, or does not name a model.
        """
        path = self.root / _DEFAULT
        if path.is_file() or path.is_symlink():
            return _read_default(path)
        names = {version.name for version in self.versions()}
        names |= {name for path in self.misplaced() if is_name(name := path.partition("/")[0])}
        if len(names) != 1:
            raise NoDefault(names)
        return names.pop()

    def choose_default(self, reference: str) -> None:
        """Name the default model, for every reader of this store: `name`, or `name@version`.

        Raises:
            InvalidName, ModelNotFound: there is no such model.
            OSError: the store cannot be written.
        """
        self.resolve(reference)
        incoming = self.root / f".incoming-{_DEFAULT}"
        incoming.write_text(f"{reference}\n")
        incoming.chmod(_SHARED_FILE_MODE)
        incoming.replace(self.root / _DEFAULT)

    def folder(self, version: ModelVersion) -> Path:
        """Where a version's files are."""
        return self.root / version.name / str(version.number)

    def fingerprint(self, version: ModelVersion) -> tuple[tuple[str, int, int], ...]:
        """Something that changes when the version's files do: the name, size and time of each."""
        files = self.folder(version).glob("*")
        return tuple(sorted((file.name, (stat := file.lstat()).st_size, stat.st_mtime_ns) for file in files))

    def card(self, version: ModelVersion) -> Card:
        """The card of a version.

        Raises:
            UnknownFormat: this release cannot know it.
        """
        return read_card(self.folder(version) / _CARD)

    def load(self, version: ModelVersion) -> StoredModel:
        """A version, checked: card, hash, tensors.

        Raises:
            UnknownFormat: this release cannot know the card.
            CorruptWeights: the tensors are not what the card says.
        """
        return _read(self.folder(version), version)

    def prepare(self, name: str) -> None:
        """Try to write where `publish` will, so that a long training does not end at a store that cannot be written.

        Raises:
            InvalidName: no model may have that name.
            OSError: the store cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=_shelf(self.root / check_name(name))):
            pass

    def publish(
        self,
        name: str,
        model: VAE,
        *,
        training: TrainingSummary | None = None,
        metrics: Sequence[Metric] = (),
        latents: LatentSummary | None = None,
        scores: ScoreQuantiles | None = None,
        warnings: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
    ) -> ModelVersion:
        """Write a model as the next version of `name`, with further `files` beside it.

        Publishers of one model take turns; readers never wait and never see half a version.

        Raises:
            InvalidName: no model may have that name.
            VersionExists: something else is in the version's place.
            CorruptWeights: what was written does not read back, a full disk for example.
        """
        check_name(name)
        content = weights.to_bytes(model)
        card = Card(
            created=datetime.now(UTC).replace(microsecond=0),
            model=model.config,
            weights=_summary(model, content),
            training=training,
            metrics=tuple(metrics),
            latents=latents,
            scores=scores,
            warnings=tuple(warnings),
        )
        everything = {**(files or {}), _WEIGHTS: content, _CARD: card.to_json().encode()}
        with _turn(_shelf(self.root / name)) as shelf:
            newest = max((version.number for version in self.versions(name)), default=0)
            version = ModelVersion(name, newest + 1)
            incoming = _write_folder(shelf / f".incoming-{version.number}", everything)
            _read(incoming, version)
            _rename(incoming, self.folder(version), version)
            _sync(shelf)
        return version


def _folders(parent: Path) -> list[str]:
    """The names of the folders, and of the links to folders, in a folder; none if it cannot be read."""
    try:
        return [entry.name for entry in os.scandir(parent) if os.path.isdir(entry)]
    except OSError:
        return []


def _misplaced(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """Why a folder of the store, or folders in it, are not a model and its versions, though they look like them."""
    model = root / name
    if name.startswith(_SET_ASIDE) or not (model.is_dir() or model.is_symlink()):
        return
    if not model.exists():
        yield name, "it is a link that leads nowhere"
        return
    if os.path.lexists(model / _CARD):
        yield name, _without_model(name) if is_number(name) else f"a version is a folder in it, such as {name}/1"
    try:
        versions = sorted(os.listdir(model))
    except OSError as error:
        if is_name(name):
            yield name, f"it cannot be read: {error.strerror}"
        return
    for number in versions:
        version = model / number
        if number.startswith(_SET_ASIDE):
            continue
        if is_name(name) and version.is_symlink() and not version.exists():
            yield f"{name}/{number}", "it is a link that leads nowhere"
        elif os.path.lexists(version / _CARD) and not is_name(name):
            yield f"{name}/{number}", str(InvalidName(name))
        elif os.path.lexists(version / _CARD) and not is_number(number):
            yield f"{name}/{number}", f"{number!r} is not a version: rename the folder to a whole number, such as 1"


def _without_model(number: str) -> str:
    return f"the store is the folder of one model, with its version {number}; name the folder above it as the store"


def _read_default(path: Path) -> str:
    try:
        # a link is followed: Kubernetes mounts the files of a volume as links
        reference = read_file(path.resolve(), _MAX_DEFAULT_BYTES).decode().strip()
        parse_reference(reference)
    except OSError as error:
        raise UnusableDefault(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise UnusableDefault(path, "it holds something else") from error
    return reference


def _read(folder: Path, version: ModelVersion) -> StoredModel:
    card = read_card(folder / _CARD)
    return StoredModel(version, card, weights.read_model(folder / _WEIGHTS, card))


def _summary(model: VAE, content: bytes) -> WeightsSummary:
    return WeightsSummary(
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        parameters=weights.count_parameters(model),
    )


def _shelf(folder: Path) -> Path:
    """The folder of a model, made if need be, and readable for a service under another user."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
    return folder


@contextmanager
def _turn(shelf: Path) -> Iterator[Path]:
    """One publisher of a model at a time; the lock ends with its process, so what is unfinished now is abandoned."""
    descriptor = os.open(shelf, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for abandoned in shelf.glob(".incoming-*"):
            shutil.rmtree(abandoned)
        yield shelf
    finally:
        os.close(descriptor)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _FILE_MODE)
    folder.chmod(_FOLDER_MODE)
    _sync(folder)
    return folder


def _rename(incoming: Path, final: Path, version: ModelVersion) -> None:
    try:
        incoming.rename(final)
    except OSError as error:
        raise VersionExists(version) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
