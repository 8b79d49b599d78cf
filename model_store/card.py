"""Card: the JSON file beside the weights. It describes the network, its weights, and where they come from.

The folder gives a model its name and version. The card holds neither, so that a folder can be copied and renamed.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, ValidationError, model_validator

from .errors import UnknownFormat
from .families import ModelConfig
from .pictures import Background
from .score_statistics import ScoreQuantiles
from .vae import Record
from .vae.record import Count, validation_messages
from .vae.sentences import counted
from .version import NAME

FORMAT: Final = 1
MAX_CARD_BYTES = 2**20
MOST_LATENT_VALUES = 4096  # that a card lists; more would make it unreadable
MAX_LICENCE_CHARACTERS = 50_000  # the longest licences of published weights have about 20,000


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class WeightsSummary(Record):
    """The file of tensors: its SHA-256, its size in bytes, and the number of learned parameters."""

    sha256: Sha256
    bytes: Annotated[Count, Field(ge=1)]
    parameters: Annotated[Count, Field(ge=1)]


class DataSummary(Record):
    """The images that a model was trained on. `sha256` is the hash of the uint8 pixels of all splits, in order.

    The service reads pictures as the training has read them: on the same background, and inverted if they were.
    """

    name: str
    train_images: Count
    validation_images: Count
    test_images: Count
    sha256: str
    resize: str
    # not written if they are the default: the cards of earlier releases keep their text
    background: Annotated[Background, Field(exclude_if=lambda background: background == "black")] = "black"
    invert: Annotated[bool, Field(exclude_if=lambda invert: not invert)] = False


class TrainingSummary(Record):
    """The origin of the weights: enough to train them again."""

    recipe: dict[str, JsonValue]
    data: DataSummary
    seed: Count
    git_commit: str | None
    epochs: Count
    best_epoch: Count
    seconds: float
    device: str
    torch: str


class FitSummary(Record):
    """A distribution that was fitted to the latents of a stored `model`, whose encoder and decoder this version has.

    `log_density_nats` is the mean log-density of held-out latents, by the `protocol`.
    """

    model: str
    kind: Literal["flow", "mixture"]
    role: Literal["prior", "sampler"]
    steps: Count
    seconds: float
    seed: Count
    log_density_nats: float
    protocol: str
    git_commit: str | None
    device: str
    torch: str


class Metric(Record):
    """A measured number, its unit, and the protocol: how it was measured."""

    name: str
    value: float
    unit: str
    protocol: str

    @property
    def measurement(self) -> str:
        """The value and its unit as text for people; the unit "1" of a plain number is left out."""
        return f"{self.value:.5g}" if self.unit == "1" else f"{self.value:.5g} {self.unit}"


SourceKind = Literal["diffusers folder", "hugging face", "taesd files", "state dict"]


class SourceFile(Record):
    """A file that a model was read from: its name in the source, its SHA-256 and its size in bytes."""

    name: Annotated[str, Field(max_length=1000)]
    sha256: Sha256
    bytes: Count


class Source(Record):
    """The origin of a model that was not trained here.

    `place` is a repository with its commit, or the name of a file or folder, without its path on the machine that
    imported it. `licence` is the name or the whole text of the licence; None if the source does not have one.
    """

    kind: SourceKind
    place: Annotated[str, Field(max_length=1000)]
    files: Annotated[tuple[SourceFile, ...], Field(max_length=1000)] = ()
    licence: Annotated[str, Field(max_length=MAX_LICENCE_CHARACTERS)] | None = None
    read: AwareDatetime


class LatentSummary(Record):
    """The distribution of the test images' latents: a number for each value, in order, in the posterior's coordinates.

    Mean and standard deviation belong to the aggregate posterior. The KL is None for a model without a posterior; with
    a learned prior, it is to the Gaussian of this mean and standard deviation.
    """

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]
    kl_nats: tuple[float, ...] | None


class Card(Record):
    """The description of a stored model. Unknown fields and other formats are errors."""

    format: Literal[1] = FORMAT
    created: AwareDatetime
    model: ModelConfig
    weights: WeightsSummary
    # not written without a value: cards of models that were trained here keep their text
    source: Annotated[Source | None, Field(exclude_if=lambda source: source is None)] = None
    preview: Annotated[
        str | None,
        Field(
            pattern=NAME.pattern,
            exclude_if=lambda preview: preview is None,
            description="a small model of the same latent space, which decodes previews",
        ),
    ] = None
    training: TrainingSummary | None = None
    fit: Annotated[FitSummary | None, Field(exclude_if=lambda fit: fit is None)] = None
    metrics: tuple[Metric, ...] = ()
    latents: LatentSummary | None = None
    scores: ScoreQuantiles | None = None
    warnings: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=10)] = ()

    @model_validator(mode="after")
    def _latents_are_the_models(self) -> Self:
        if self.latents is None:
            return self
        values = prod(self.model.example_latent_shape)
        for name, numbers in (entry for entry in self.latents if entry[1] is not None):
            if len(numbers) != values:
                raise ValueError(
                    f"latents.{name} has {counted(len(numbers), 'values')}, but a latent of the model has {values}"
                )
        if min(self.latents.standard_deviation) < 0:
            raise ValueError("latents.standard_deviation has a negative value; all must be 0 or more")
        return self

    @property
    def background(self) -> Background:
        """The background of transparent pictures and of padding in the training, and so in the service."""
        return self.training.data.background if self.training else "black"

    @property
    def is_inverted(self) -> bool:
        """Whether the network knows images as their negatives, so that the service inverts them on both ways."""
        return self.training is not None and self.training.data.invert

    def metric(self, name: str) -> Metric | None:
        """The metric with that name; None if the card does not have it."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_json(self) -> str:
        """The content of `card.json`."""
        return self.model_dump_json(indent=2) + "\n"


def parse_card(path: Path, text: bytes) -> Card:
    """The card that a file's text describes; `path` names the file in errors.

    Raises:
        UnknownFormat: the text is not JSON, is of another format, or has a value that this release does not know.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnknownFormat(path, "it is not JSON") from error
    number = fields.get("format") if isinstance(fields, dict) else None
    if number != FORMAT:  # before the fields, which differ in another format too
        raise UnknownFormat(path, f"its format is {number!r}, but this release knows format {FORMAT}")
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise UnknownFormat(path, validation_messages(error, Card)[0]) from error
