"""Record: a frozen value that refuses what it does not know. Cards, configurations and recipes are made of these."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """A frozen value with strict types; an unknown key or a non-finite number is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def problems(error: ValidationError) -> list[str]:
    """What is wrong with a value, a short line for each place in it; the values themselves are not repeated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [_line(".".join(str(part) for part in problem["loc"]), problem["msg"]) for problem in found]


def _line(place: str, message: str) -> str:
    return f"{place[:80]}: {message[:200]}" if place else message[:200]
