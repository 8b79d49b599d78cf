"""The parameters in a query, read by a pydantic model and by the same rules as FastAPI's."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import PydanticKnownError
from starlette.datastructures import QueryParams

from model_store.vae.sentences import sentence

from ..errors import BadValue, InvalidParameter

_MAX_PARAMETERS = 600  # an address of 16 kB can name thousands, each of which becomes an error with a sentence


class QueryParameters(BaseModel):
    """The parameters that an endpoint takes. An unknown parameter is an error, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _without_underscores(cls, text: object, read: ValidatorFunctionWrapHandler) -> object:
        """Refuse 1_0 as a number; pydantic reads it as Python's source does, as 10."""
        value = read(text)
        numbers = value if isinstance(value, list) else [value]
        if "_" in str(text) and all(isinstance(number, int | float) for number in numbers):
            raise PydanticKnownError("int_parsing" if isinstance(numbers[0], int) else "float_parsing")
        return value


P = TypeVar("P", bound=QueryParameters)


class QueryReader(Generic[P]):
    """Reads the queries of one endpoint."""

    def __init__(self, kind: type[P]) -> None:
        self._kind = kind
        self._defaults = kind()
        types = {name: (field.annotation, *get_args(field.annotation)) for name, field in kind.model_fields.items()}
        self._lists = {name for name in types if any(get_origin(each) is list for each in types[name])}

    def read(self, query: bytes) -> P:
        """The parameters of a query. The key of a list may be repeated, any other key may not.

        Raises:
            InvalidParameter: a parameter is unknown, repeated, or has a wrong value.
            BadValue: there are too many parameters.
        """
        if not query:
            return self._defaults
        if (count := 1 + query.count(b"&")) > _MAX_PARAMETERS:
            raise BadValue(f"The query has {count:,} parameters; send at most {_MAX_PARAMETERS}.")
        given = QueryParams(query)
        values = {name: given.getlist(name) if name in self._lists else given[name] for name in given}
        try:
            parameters = self._kind.model_validate(values)
        except ValidationError as error:
            raise InvalidParameter(sentence(error.errors(include_url=False)[0], self._kind)) from error
        for name in self._kind.model_fields.keys() & given.keys() - self._lists:
            if (times := len(given.getlist(name))) > 1:
                raise InvalidParameter(f"{name} is given {times} times; give it once")
        return parameters
