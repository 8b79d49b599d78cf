"""Record: the base of cards, configurations and recipes, and the messages for values that they refuse."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .sentences import sentence

MAX_SAFE_INTEGER = 2**53 - 1  # JavaScript, like all readers that keep numbers as doubles, rounds larger ones
Count = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]


class Record(BaseModel):
    """A frozen value with strict types. Unknown fields and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def validation_messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A short sentence for each value that pydantic has refused; `model` knows the names of the fields."""
    return [sentence(problem, model) for problem in error.errors(include_url=False)]
