"""Record: a frozen value that refuses what it does not know. Cards, configurations and recipes are made of these."""

from pydantic import BaseModel, ConfigDict, ValidationError

from .sentences import sentence


class Record(BaseModel):
    """A frozen value with strict types; an unknown key or a non-finite number is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A short sentence for each value that the model refuses."""
    return [sentence(problem, model) for problem in error.errors(include_url=False)]
