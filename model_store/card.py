"""Card: the JSON beside the weights. It says what network to build, what weights belong to it, and where they are from.

The folder gives a model its name and version; the card holds neither, so that a folder may be copied and renamed.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, ValidationError, model_validator

from .errors import UnknownFormat
from .families import ModelConfig
from .vae import Record
from .vae.record import Count, validation_messages
from .vae.sentences import counted

FORMAT: Final = 1
MAX_CARD_BYTES = 2**20


class WeightsSummary(Record):
    """The file of tensors: its SHA-256, its size, and how many numbers the network learned."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[Count, Field(ge=1)]
    parameters: Annotated[Count, Field(ge=1)]


class DataSummary(Record):
    """The images a model was trained on. `sha256` is of the pixels of all splits, in order, as uint8."""

    name: str
    train_images: Count
    validation_images: Count
    test_images: Count
    sha256: str
    resize: str


class TrainingSummary(Record):
    """Where the weights come from: enough to make them again."""

    recipe: dict[str, JsonValue]
    data: DataSummary
    seed: Count
    git_commit: str | None
    epochs: Count
    best_epoch: Count
    seconds: float
    device: str
    torch: str


class Metric(Record):
    """A number, its unit, and the protocol without which it means nothing."""

    name: str
    value: float
    unit: str
    protocol: str

    @property
    def measurement(self) -> str:
        """The value with its unit, for people; the unit "1" of a plain number is not shown."""
        return f"{self.value:.5g}" if self.unit == "1" else f"{self.value:.5g} {self.unit}"


class LatentSummary(Record):
    """How test images spread over the latents, in normal coordinates; a number for each latent value, in order.

    Mean and standard deviation are those of the aggregate posterior; the KL is None for a model that gives points.
    """

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]
    kl_nats: tuple[float, ...] | None


class ScoreQuantiles(Record):
    """The 0th to 100th percentile of the test images' ELBO in nats: what is usual for this model."""

    elbo_nats: Annotated[tuple[float, ...], Field(min_length=101, max_length=101)]
    protocol: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if list(self.elbo_nats) != sorted(self.elbo_nats):
            raise ValueError("elbo_nats are quantiles, which never fall; these do")
        return self


class Card(Record):
    """What a stored model is. Frozen; it carries a format number and refuses what it does not know."""

    format: Literal[1] = FORMAT
    created: AwareDatetime
    model: ModelConfig
    weights: WeightsSummary
    training: TrainingSummary | None = None
    metrics: tuple[Metric, ...] = ()
    latents: LatentSummary | None = None
    scores: ScoreQuantiles | None = None
    warnings: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=10)] = ()

    @model_validator(mode="after")
    def _latents_are_the_models(self) -> Self:
        if self.latents is None:
            return self
        values = prod(self.model.latent_shape)
        for name, numbers in (entry for entry in self.latents if entry[1] is not None):
            if len(numbers) != values:
                raise ValueError(
                    f"latents.{name} has {counted(len(numbers), 'values')}, a latent of the model has {values}"
                )
        if min(self.latents.standard_deviation) < 0:
            raise ValueError("latents.standard_deviation has a negative value")
        return self

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_json(self) -> str:
        """The text of `card.json`."""
        return self.model_dump_json(indent=2) + "\n"


def parse_card(path: Path, text: bytes) -> Card:
    """The card in the text of a file; the path is named in errors.

    Raises:
        UnknownFormat: the text is not JSON, is of another format, or has a value that this release does not know.
    """
    _check_format(path, text)
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise UnknownFormat(path, validation_messages(error, Card)[0]) from error


def _check_format(path: Path, text: bytes) -> None:
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnknownFormat(path, "it is not JSON") from error
    number = card.get("format") if isinstance(card, dict) else None
    if number != FORMAT:
        raise UnknownFormat(path, f"its format is {number!r}, but this release knows format {FORMAT}")
