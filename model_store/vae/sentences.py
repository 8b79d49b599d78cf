"""Sentences in our own words about values that pydantic refuses; clients, operators and trainers read them.

A sentence never repeats the value, which may be a secret or very long, unless the value is a short number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_WHOLE_NUMBER = "must be a whole number"
_NUMBER = "must be a number"
_TEXT = "must be a text"
_LIST = "must be a list"
_FIELDS = "must hold named fields"
_TIME = "must be a time with its zone, as 2026-01-31T12:00:00Z"

# for each type of error the end of a sentence that begins with the place of the value; the context of pydantic's error
# fills the braces
_PREDICATES = {
    "missing": "is required; add it",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": _TEXT,
    "string_unicode": "must be a text in UTF-8",
    "string_too_short": "must have a length of at least {min_length}",
    "string_too_long": "must have a length of at most {max_length}",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_short": "must have a length of at least {min_length}",
    "too_long": "must have a length of at most {max_length}",
    "dict_type": _FIELDS,
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
    "union_tag_not_found": "must have the field {discriminator}",
    "union_tag_invalid": "must have one of {expected_tags} as its {discriminator}, not {tag:.20}",
    "path_type": "must be a path",
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "timezone_aware": _TIME,
    "json_invalid": "is not JSON",
}
_SHORT_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?")
_LONGEST_PLACE, _LONGEST_MESSAGE = 80, 300


def sentence(problem: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """A sentence about one error of a ValidationError, without a full stop; `model` is the class that raised it."""
    words, models = _walk(model, problem["loc"])
    place = ".".join(words)[:_LONGEST_PLACE] or "it"
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        message = str(context["error"])[:_LONGEST_MESSAGE].removesuffix(".")
        return f"{place}: {message}" if problem["loc"] else message
    if kind == "extra_forbidden":
        return f"{place} {unknown(words[-1], {name for each in models for name in each.model_fields})}"
    plain = {name: _plain(value) for name, value in context.items()}
    predicate = _PREDICATES.get(kind, "does not have the expected form").format_map(plain)
    return f"{place} {predicate}{_instead_of(problem.get('input'))}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar to `name`, as the next part of a sentence; empty if none is similar."""
    return "".join(f"; did you mean {near}?" for near in get_close_matches(name[:_LONGEST_PLACE], list(known), n=1))


def counted(number: int, units: str) -> str:
    """A number and its units: `1 image`, `1,024 images`. The first word of `units` is a plural with an s."""
    word, space, rest = units.partition(" ")
    return f"{number:,} {word.removesuffix('s') if number == 1 else word}{space}{rest}"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape for people, such as 3×32×32, or 3×any×any; a shape of more than eight dimensions is cut."""
    text = "×".join("any" if side is None else str(side) for side in shape[:8]) or "a single number"
    return f"{text}×…" if len(shape) > 8 else text


def unknown(name: str, known: Collection[str]) -> str:
    """The end of a sentence that begins with an unknown name: the known names, and the most similar one."""
    if not known:
        return "is not known; leave it out"
    guess = did_you_mean(name, known)
    return f"is not known{guess}{' The' if guess else '; the'} known names are {', '.join(sorted(known))}"


def _plain(value: object) -> object:
    """The text of a bound without the fraction .0, or of a choice of words without quotes.

    Where a function such as `family_of` tells the kinds of a union apart, pydantic names the function.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.replace("'", "").removesuffix("_of()") if isinstance(value, str) else value


def _instead_of(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value) if abs(value) < 1e20 else ""
    is_shown = isinstance(value, str) and _SHORT_NUMBER.fullmatch(value) is not None
    return f", not {value}" if is_shown else ""


def _walk(model: type[BaseModel] | None, place: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """The words of a place as a user writes it, and the models that may hold its last word.

    A place of pydantic also has the kinds of unions. They narrow the choice of models, but are not fields.
    """
    words: list[str] = []
    models = [] if model is None else [model]
    for part in place[:-1]:
        holders: list[Mapping[str, Any]] = [holder.model_fields for holder in models if part in holder.model_fields]
        kinds = [inner for inner in models if _is_of_kind(inner, part)]
        if holders:
            models = [inner for fields in holders for inner in _models_in(fields[str(part)].annotation)]
        elif kinds:
            models = kinds
            continue
        words.append(str(part))
    return [*words, *map(str, place[-1:])], models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _is_of_kind(model: type[BaseModel], kind: int | str) -> bool:
    fields = model.model_fields
    return any(name in fields and fields[name].default == kind for name in ("kind", "family"))
