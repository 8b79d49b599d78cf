"""Recipe: every value that decides which model a run makes, in one TOML file.

The same recipe, images and device give the same model. An unknown key is an error before any work.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from model_store.files import read_file
from model_store.pictures import Background, Resize
from model_store.vae import GaussianConfig, Record, VAEConfig
from model_store.vae.record import validation_messages
from model_store.version import check_name

from .devices import Precision
from .errors import BadRecipe
from .objective import ObjectiveRecipe

SHELF = Path(__file__).parent / "recipes"
SHIPPED = tuple(sorted(file.stem for file in SHELF.glob("*.toml")))

_MAX_BYTES = 2**20

Fraction = Annotated[float, Field(gt=0, lt=1)]


def check_groups(groups: str) -> str:
    """The value of `data.groups` again.

    Raises:
        ValueError: it is not a regular expression.
    """
    try:
        re.compile(groups)
    except re.error as error:
        raise ValueError(f"is neither the word folder nor a regular expression ({error})") from error
    return groups


class DataRecipe(Record):
    """The data set, the way in which pictures become pixels, and the splits."""

    source: str | None = Field(
        default=None, description="the data set to download when --data is not given; see sources/download.py"
    )
    resize: Resize = Field(
        default="none",
        description="images of another size than the model's: an error, padded (contain), cropped (cover) or stretched",
    )
    background: Background = Field(
        default="black", description="the colour behind transparent pixels, and around padded pictures"
    )
    invert: bool = Field(
        default=False, description="the model learns the negatives, as white on black; the service inverts as well"
    )
    flips: bool = Field(
        default=False, description="in each epoch, a random half of the training images is mirrored left to right"
    )
    validation: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="a folder inside the folder of --data, whose pictures choose the weights and are not trained on",
    )
    groups: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_groups)] | None = Field(
        default=None,
        description="pictures of a group are in one split only: `folder`, or a regular expression whose parentheses "
        "match the name of the group in a picture's path; the path begins below the folder of --data, or below "
        "`train`, `test` or another folder of a split; a picture without such a name is a group of its own",
    )
    validation_fraction: Fraction = Field(
        default=0.05, description="the part of the training images that chooses the weights"
    )
    test_fraction: Fraction = Field(
        default=0.1, description="the part of all images to test with, where the data has no test set"
    )


class OptimiserRecipe(Record):
    """Adam, with a learning rate that rises and then falls to zero along a cosine, and averaged weights."""

    batch_images: Annotated[int, Field(ge=1, description="the images of one step")]
    learning_rate: Annotated[float, Field(gt=0, description="the highest of the run, after its rise")]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.02, description="the part of the run in which the learning rate rises"
    )
    average_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.999, description="decay per step of the averaged weights, which are evaluated and published"
    )
    gradient_norm: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="a longer gradient is scaled down to this norm, in nats per image"
    )
    precision: Precision = Field(
        default="float32", description="the precision of a step's products and convolutions; evaluation uses float32"
    )


class Recipe(Record):
    """A recipe, read and checked."""

    name: Annotated[str, AfterValidator(check_name), Field(description="the name to publish the model under")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0, description="of the first weights, the order of the images, all noise, and the splits that are drawn"
    )
    epochs: Annotated[int, Field(ge=1, description="the times that the run goes through all training images")]
    patience: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="end the run after that many epochs without a better validation; by default it trains every epoch",
    )
    begin_from: str | None = Field(
        default=None,
        description="a stored model, such as mnist@1 or mnist@stable, whose weights the run begins with; by default "
        "they are random",
    )
    data: DataRecipe = DataRecipe()
    model: VAEConfig
    objective: ObjectiveRecipe = ObjectiveRecipe()
    optimiser: OptimiserRecipe

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        """Refuse values that the objective does not use: a card would report a β that did nothing."""
        plain = ObjectiveRecipe()
        kept = {
            "draws": 1,
            "importance_weighted": False,
            "fits_deviation": False,
            "prior_from_fraction": plain.prior_from_fraction,
        }
        changes_the_elbo = self.objective.model_copy(update=kept) != plain
        if changes_the_elbo and (self.objective.importance_weighted or "score" not in self.model.can):
            raise ValueError(
                "objective: kl_weight, kl_warmup_fraction and free_nats change the ELBO alone; leave them out"
            )
        if self.objective.importance_weighted and "score" not in self.model.can:
            raise ValueError(f"objective.importance_weighted needs a posterior; the model's is {self.model.posterior}")
        likelihood = self.model.likelihood
        has_deviation = isinstance(likelihood, GaussianConfig) and likelihood.standard_deviation is not None
        if self.objective.fits_deviation and self.objective.importance_weighted:
            raise ValueError(
                "objective.fits_deviation fits the ELBO, and not the importance-weighted bound; leave one out"
            )
        if self.objective.fits_deviation and not (has_deviation and "encode" in self.model.can):
            raise ValueError(
                "objective.fits_deviation needs an encoder and a gaussian likelihood with a standard_deviation, which "
                "it replaces; set model.likelihood.standard_deviation=0.1, for example"
            )
        if self.objective.free_nats and self.model.has_learned_prior:
            raise ValueError(
                "objective.free_nats counts the KL of each dimension, which a learned prior does not have; leave it out"
            )
        if self.objective.prior_from_fraction != plain.prior_from_fraction and not self.model.has_learned_prior:
            raise ValueError("objective.prior_from_fraction is for a learned prior, flow or mixture; leave it out")
        if self.model.samplers:
            raise ValueError(
                "model.samplers are fitted to a model that is trained: python -m training.fit_prior; leave them out"
            )
        if self.objective.draws > 1 and "sample" not in self.model.can:
            raise ValueError("objective.draws: a plain autoencoder draws nothing; leave it out")
        return self


def read_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by its name, or a recipe file by its path, with `key=value` changes.

    A change names its key with dots, such as `optimiser.batch_images=64`.

    Raises:
        BadRecipe: there is no such recipe, it is not TOML, a key is unknown, or a value does not fit; all at once.
    """
    try:
        values = tomllib.loads(read_file(find_recipe(name_or_path), _MAX_BYTES, follow_links=True).decode())
        for change in changes:
            apply_change(values, change)
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise BadRecipe(name_or_path, *validation_messages(error, Recipe)) from error
    except (OSError, ValueError, TypeError) as error:
        raise BadRecipe(name_or_path, str(error)) from error
    except RecursionError as error:
        raise BadRecipe(name_or_path, "its values are nested too deeply; a recipe has three levels") from error


def find_recipe(name_or_path: str) -> Path:
    """The file of a shipped recipe by its name, or of any recipe by its path.

    Raises:
        BadRecipe: there is no such recipe.
    """
    shelved = SHELF / f"{name_or_path}.toml"
    if shelved.is_file():
        return shelved
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise BadRecipe(name_or_path, f"it is neither a file nor one of {', '.join(SHIPPED)}")


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set the dotted key of a `key=value` in the tables of a recipe; a bare word counts as a string.

    Raises:
        ValueError: there is no `=`, or a part of the key is a value instead of a table.
    """
    key, found, text = change.partition("=")
    if not found:
        raise ValueError(f"--set takes key=value, not {change!r}")
    try:
        change.encode()
    except UnicodeEncodeError as error:  # the shell gave other bytes, which Python holds as lone surrogates
        raise ValueError(f"--set {change!r} is not UTF-8; use a terminal and a locale of UTF-8, as C.UTF-8") from error
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {change}: {table} is a value, not a table")
    try:
        values[last] = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text.strip()
