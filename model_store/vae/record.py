"""Record: a frozen value that refuses what it does not know. Cards, configurations and recipes are made of these."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .sentences import sentence

MAX_SAFE_INTEGER = 2**53 - 1  # JavaScript, and every reader that takes numbers for doubles, rounds larger ones
Count = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]


class Record(BaseModel):
    """A frozen value with strict types; an unknown key or a non-finite number is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def validation_messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A short sentence for each value that the model refuses."""
    return [sentence(problem, model) for problem in error.errors(include_url=False)]
