"""Calibration: the scores of a set of normal images, such as the good parts of a production line, under one version.

It lies beside the version in the store, and other images are compared with it. A card has such quantiles too, of the
model's own test images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from .card import LatentSummary, Sha256
from .errors import UnusableCalibration
from .score_statistics import ScoreQuantiles
from .vae.record import Count, Record, validation_messages

FORMAT: Final = 1
MAX_CALIBRATION_BYTES = 2**20
MAX_CALIBRATIONS = 100  # of one version


class Calibration(Record):
    """The scores of a set of normal images under one version of a model.

    `weights_sha256` is the hash of that version's weights: scores under other weights cannot be compared. `latents` is
    None for a model whose latents have more values than a card can list. The scores were estimated by that number of
    posterior `draws`; scores by more draws are less noisy.
    """

    format: Literal[1] = FORMAT
    created: AwareDatetime
    weights_sha256: Sha256
    data: Annotated[str, Field(max_length=1000)]
    images: Annotated[Count, Field(ge=1)]
    draws: Annotated[Count, Field(ge=1)]
    scores: ScoreQuantiles
    latents: Annotated[LatentSummary | None, Field(exclude_if=lambda latents: latents is None)] = None

    @model_validator(mode="after")
    def _distances_need_latents(self) -> Self:
        if self.scores.latent_distance is not None and self.latents is None:
            raise ValueError("scores.latent_distance are distances from latents, but latents are missing; add them")
        return self

    def to_json(self) -> str:
        """The content of the file."""
        return self.model_dump_json(indent=2) + "\n"


def parse_calibration(path: Path, text: bytes) -> Calibration:
    """The calibration that a file's text describes; `path` names the file in errors.

    Raises:
        UnusableCalibration: the text is not JSON, is of another format, or has a wrong value.
    """
    try:
        fields_of_file = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableCalibration(path, "it is not JSON") from error
    number = fields_of_file.get("format") if isinstance(fields_of_file, dict) else None
    if number != FORMAT:
        raise UnusableCalibration(path, f"its format is {number!r}, but this release knows format {FORMAT}")
    try:
        return Calibration.model_validate_json(text)
    except ValidationError as error:
        raise UnusableCalibration(path, validation_messages(error, Calibration)[0]) from error
