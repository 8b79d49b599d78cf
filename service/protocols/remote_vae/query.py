"""The query of both endpoints: the shape and type of the body's tensor, and the scaling of latents."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field

from model_store.vae.scaling import Magnitude, Scaling, Shift

from ...errors import InvalidParameter
from ...http.query import QueryParameters

DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}

_MAX_DIMENSIONS = 5  # of a video; more have no meaning in this protocol
_MAX_SIDE = 2**31 - 1


class SentTensor(NamedTuple):
    """The shape and the type of the tensor in a body."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def answer_dtype(self) -> torch.dtype:
        """The type of floats in the answer: the sent one, but for float64, which clients do not read."""
        return torch.float32 if self.dtype == torch.float64 else self.dtype


class RemoteParameters(QueryParameters):
    """The parameters of both endpoints. Other keys are ignored: some clients send keys that no server needs."""

    model_config = ConfigDict(extra="ignore")

    shape: Annotated[
        list[Annotated[int, Field(ge=1, le=_MAX_SIDE)]] | None,
        Field(min_length=1, max_length=_MAX_DIMENSIONS, description="of the body's tensor: the key once for each side"),
    ] = None
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32", "float64"] | None,
        Field(description="of the body's tensor; floats are answered in the same type, but float64 in float32"),
    ] = None
    scaling_factor: Annotated[
        Magnitude | None,
        Field(description="the latents that the client has or wants are (latent − shift) · factor"),
    ] = None
    shift_factor: Annotated[Shift | None, Field(description="the shift beside scaling_factor")] = None
    do_scaling: Annotated[
        bool, Field(description="without scaling_factor: the factors of the model's own card are used")
    ] = False

    def sent_tensor(self) -> SentTensor:
        """The tensor in the body.

        Raises:
            InvalidParameter: the query does not say its shape or its type.
        """
        if self.shape is None:
            raise InvalidParameter("shape is missing; send it once for each side, such as shape=1&shape=4&shape=64")
        if self.dtype is None:
            raise InvalidParameter(f"dtype is missing; send the type of the tensor: {', '.join(DTYPES)}")
        return SentTensor(tuple(self.shape), DTYPES[self.dtype])

    def scaling(self, own: Scaling) -> Scaling:
        """The scaling that the client asks for; `own` is the model's."""
        if self.do_scaling and self.scaling_factor is None:
            return own
        return Scaling(factor=self.scaling_factor or 1.0, shift=self.shift_factor or 0.0)
