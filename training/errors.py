"""The errors that stop training or evaluation. Each class builds its message: the value, what was expected, the remedy.

TrainingError
├── BadRecipe            a recipe or a `--set` that cannot be used
├── DataNotFound         a place without images
├── BadData              images that cannot be read, or that do not fit the recipe
├── DownloadFailed       no mirror gave the expected file
├── CannotMeasure        a model that lacks the operation that would be measured
├── NotText              a path that is not UTF-8
├── RunNotFound          a folder without a run that can be resumed
├── WrongRun             a run that was begun with other images
├── CannotKeepRun        a folder that cannot keep a run
├── CannotPublish        a store that cannot be published into
├── CannotFit            a distribution that does not fit a model's latents
├── NotFinite            a trained model whose numbers are not finite
└── Diverged             a training objective that is no longer finite
"""

from collections.abc import Sequence
from pathlib import Path

from model_store.vae.sentences import counted

HOW_TO_RESIZE = (
    "set data.resize to contain (pad), cover (crop) or stretch; to evaluate a model without a recipe, set --resize"
)


def _clause(reason: object) -> str:
    """A reason as part of a sentence: one line without a full stop."""
    return " ".join(str(reason).split()).rstrip(".")


class TrainingError(Exception):
    """The base of all errors of this package."""


class BadRecipe(TrainingError):
    """A recipe or a `--set` cannot be used."""

    def __init__(self, recipe: str, *problems: str) -> None:
        super().__init__(f"Cannot use the recipe {recipe}: {'; '.join(map(_clause, problems))}.")


class DataNotFound(TrainingError):
    """A place has no images."""

    def __init__(self, place: object, remedy: str) -> None:
        super().__init__(f"No images in {place}: {_clause(remedy)}.")


class BadData(TrainingError):
    """Images cannot be read, or do not fit the recipe."""

    def __init__(self, place: object, problem: str) -> None:
        super().__init__(f"Cannot use {place}: {_clause(problem)}.")


class DownloadFailed(TrainingError):
    """No mirror gave the expected file."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"Cannot download {name}: {'; '.join(map(_clause, problems))}. "
            "Where there is a network, run the recipe with --download and the same --cache; or download it yourself, "
            "and name its folder with --data."
        )


class CannotMeasure(TrainingError):
    """A model lacks the operation that would be measured."""

    def __init__(self, model: object, reason: str, remedy: str) -> None:
        super().__init__(f"{model} {reason}; {remedy}.")


class NotText(TrainingError):
    """A path is not UTF-8, so that neither a run nor a card can hold it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"Cannot use the path {path}: it is not UTF-8, so a run could not remember it; rename it.")


class RunNotFound(TrainingError):
    """A folder has no run that can be resumed."""

    def __init__(self, folder: Path, problem: object) -> None:
        super().__init__(f"Cannot resume a run in {folder}: {_clause(problem)}.")


class WrongRun(TrainingError):
    """A run was begun with other images."""

    def __init__(self, folder: Path, expected: str, got: str) -> None:
        super().__init__(
            f"The run in {folder} was begun with images of SHA-256 {expected[:12]}…, but these have {got[:12]}…; "
            "name the original images with --data."
        )


class CannotKeepRun(TrainingError):
    """A run cannot be written: the disk is full or read-only, or a permission is missing."""

    def __init__(self, folder: Path, reason: OSError, remedy: str = "") -> None:
        super().__init__(f"Cannot write to {folder}: {reason.strerror or reason}. {remedy}".rstrip())
        self.reason = reason


class CannotPublish(TrainingError):
    """A store cannot be published into."""

    def __init__(self, store: Path, reason: Exception) -> None:
        said = getattr(reason, "strerror", None) or str(reason).rstrip(".")
        super().__init__(f"Cannot publish into the store {store}: {said}. Fix this, or name another with --store.")


class CannotFit(TrainingError):
    """A distribution cannot be fitted to the latents of a model."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"Cannot fit a distribution {_clause(problem)}{remedy and '; '}{remedy}.")


class NotFinite(TrainingError):
    """A trained model gives numbers that are not finite, so a card cannot state them."""

    def __init__(self, images: int) -> None:
        super().__init__(
            f"The model's numbers on the {counted(images, 'images')} of the test set are not finite, "
            "so it cannot be published; train it with a smaller learning rate: --set optimiser.learning_rate=…"
        )


class Diverged(TrainingError):
    """The objective is no longer a finite number."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"The objective is not finite in epoch {epoch}, at a learning rate of {learning_rate:g}; "
            "try a smaller one: --set optimiser.learning_rate=…"
        )
