"""What can stop a training run before it starts or while it goes.

TrainingError
├── BadRecipe            a recipe that cannot be followed, or a `--set` that does not fit it
├── DataNotFound         no images where they were looked for
├── BadData              images that cannot be read, or that do not fit the recipe
├── DownloadFailed       no mirror gave the file that was expected
├── NotText              a path that no JSON can hold
├── RunNotFound          no run that can be resumed
├── WrongRun             a run that was begun with other data
├── CannotKeepRun        a folder in which a run cannot be kept
├── CannotPublish        a store into which nothing can be published
├── NotFinite            a trained model that cannot be measured
└── Diverged             the loss is no longer a number
"""

from collections.abc import Sequence
from pathlib import Path


def _clause(reason: object) -> str:
    """A reason as part of a sentence: in one line, without a full stop of its own."""
    return " ".join(str(reason).split()).rstrip(".")


class TrainingError(Exception):
    """A run cannot start or go on."""


class BadRecipe(TrainingError):
    """A recipe that cannot be followed, or a `--set` that does not fit it."""

    def __init__(self, recipe: str, *problems: str) -> None:
        super().__init__(f"Cannot follow the recipe {recipe}: {'; '.join(map(_clause, problems))}.")


class DataNotFound(TrainingError):
    """No images where they were looked for."""

    def __init__(self, place: object, remedy: str) -> None:
        super().__init__(f"No images in {place}: {_clause(remedy)}.")


class BadData(TrainingError):
    """Images that cannot be read, or that do not fit the recipe."""

    def __init__(self, place: object, problem: str) -> None:
        super().__init__(f"Cannot use {place}: {_clause(problem)}.")


class DownloadFailed(TrainingError):
    """No mirror gave the file that was expected."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"Cannot download {name}: {'; '.join(map(_clause, problems))}. "
            "Fetch it by other means and name its folder with --data."
        )


class NotText(TrainingError):
    """A path that no JSON can hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"Cannot use the path {path}: it is not UTF-8, so a run could not remember it; rename it.")


class RunNotFound(TrainingError):
    """No run that can be resumed."""

    def __init__(self, folder: Path, problem: object) -> None:
        super().__init__(f"No run can be resumed in {folder}: {_clause(problem)}.")


class WrongRun(TrainingError):
    """A run that was begun with other data."""

    def __init__(self, folder: Path, expected: str, got: str) -> None:
        super().__init__(
            f"The run in {folder} was begun with images of SHA-256 {expected[:12]}…, these are {got[:12]}…; "
            "name the folder that it was begun with by --data."
        )


class CannotKeepRun(TrainingError):
    """A folder in which a run cannot be kept: a full disk, a read-only one, a missing permission."""

    def __init__(self, folder: Path, reason: OSError, remedy: str = "") -> None:
        super().__init__(f"Cannot write to {folder}: {reason.strerror or reason}. {remedy}".rstrip())
        self.reason = reason


class CannotPublish(TrainingError):
    """A store into which nothing can be published."""

    def __init__(self, store: Path, reason: Exception) -> None:
        said = getattr(reason, "strerror", None) or str(reason).rstrip(".")
        super().__init__(f"Cannot publish into the store {store}: {said}. Mend that, or name another by --store.")


class NotFinite(TrainingError):
    """A trained model that cannot be measured."""

    def __init__(self, images: int) -> None:
        super().__init__(
            f"The model's numbers on the {images} test images are not finite, so a card cannot state them; "
            "train it with a smaller learning rate: --set optimiser.learning_rate=…"
        )


class Diverged(TrainingError):
    """The loss is no longer a number."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"The bound is not finite in epoch {epoch}, at a learning rate of {learning_rate:g}; "
            "try a smaller one: --set optimiser.learning_rate=…"
        )
