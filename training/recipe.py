"""Recipe: everything that decides what a training run makes, in one TOML file.

Same recipe, same data, same device: same model. An unknown key is an error before any work.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from model_store.pictures import Resize
from model_store.vae import Record, VAEConfig
from model_store.vae.record import validation_messages
from model_store.version import check_name

from .devices import Precision
from .errors import BadRecipe
from .objective import ObjectiveRecipe

SHELF = Path(__file__).parent / "recipes"

Fraction = Annotated[float, Field(gt=0, lt=1)]


class DataRecipe(Record):
    """Which images, how they are brought to size, and how they are divided."""

    source: str | None = Field(
        default=None, description="the data set that is downloaded when no --data is given; see sources/download.py"
    )
    resize: Resize = "none"
    validation_fraction: Fraction = Field(default=0.05, description="of the training images; they choose the weights")
    test_fraction: Fraction = Field(default=0.1, description="of all images, where the data has no test set of its own")


class OptimiserRecipe(Record):
    """Adam, a learning rate that warms up and then falls to zero along a cosine, and averaged weights."""

    batch_images: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.02
    average_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.999, description="per step, of the exponential average of the weights that is evaluated and published"
    )
    gradient_norm: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="a step with a longer gradient, in nats per image, is shortened to this"
    )
    precision: Precision = Field(
        default="float32", description="of the products and convolutions of a step; models are measured in float32"
    )


class Recipe(Record):
    """What to train, on what, for how long."""

    name: Annotated[str, AfterValidator(check_name), Field(description="under which the model is published")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    epochs: Annotated[int, Field(ge=1)]
    begin_from: str | None = Field(
        default=None, description="a stored model, as mnist@1, whose weights the run begins with; else they are drawn"
    )
    data: DataRecipe = DataRecipe()
    model: VAEConfig
    objective: ObjectiveRecipe = ObjectiveRecipe()
    optimiser: OptimiserRecipe

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        """Only what an objective uses may be set: a β that does nothing would be reported as one that does."""
        plain = ObjectiveRecipe()
        bends = self.objective.model_copy(update={"draws": 1, "importance_weighted": False}) != plain
        if bends and (self.objective.importance_weighted or "score" not in self.model.can):
            raise ValueError("objective: kl_weight, kl_warmup_fraction and free_nats bend the ELBO and nothing else")
        if self.objective.importance_weighted and "score" not in self.model.can:
            raise ValueError(f"objective.importance_weighted needs a posterior; the model's is {self.model.posterior}")
        if self.objective.draws > 1 and "sample" not in self.model.can:
            raise ValueError("objective.draws: a plain autoencoder draws nothing; leave it out")
        return self


def read_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of that name on the shelf, or in that file, with `key=value` changes (`optimiser.batch_images=64`).

    Raises:
        BadRecipe: no such recipe, not TOML, an unknown key, a value that does not fit; all problems at once.
    """
    try:
        values = tomllib.loads(_find(name_or_path).read_text(encoding="utf-8"))
        for change in changes:
            _apply(values, change)
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise BadRecipe(name_or_path, *validation_messages(error, Recipe)) from error
    except (OSError, ValueError, TypeError) as error:
        raise BadRecipe(name_or_path, str(error)) from error


def _find(name_or_path: str) -> Path:
    shelved = SHELF / f"{name_or_path}.toml"
    if shelved.is_file():
        return shelved
    path = Path(name_or_path)
    if path.is_file():
        return path
    names = ", ".join(sorted(file.stem for file in SHELF.glob("*.toml")))
    raise BadRecipe(name_or_path, f"it is neither a file nor one of {names}")


def _apply(values: dict[str, Any], change: str) -> None:
    """Set a dotted key to a TOML value; a bare word counts as a string."""
    key, found, text = change.partition("=")
    if not found:
        raise ValueError(f"--set takes key=value, not {change!r}")
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {change}: {table} is a value, not a table")
    values[last] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
