"""Tensors as their bytes alone, in C order and with the lowest byte first. The shape and the type stand elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from model_store.vae.sentences import shape_text

from ..errors import MalformedBody


def check_length(media_type: str, size: int, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Raise MalformedBody unless a body of `size` bytes has the length of such a tensor."""
    if size != (expected := prod(shape) * dtype.itemsize):
        name = str(dtype).removeprefix("torch.")
        raise MalformedBody(
            media_type,
            f"it has {size:,} bytes, but {shape_text(shape)} values of {name} have {expected:,}; send the tensor's "
            "bytes alone, in C order, with its own shape and dtype",
        )


def read_raw(content: bytes, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The tensor of that shape and type, whose length has been checked."""
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(tuple(shape))  # torch wants memory to write to


def write_raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor, in C order with any strides."""
    numbers = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # NumPy does not know bfloat16
    return numbers.numpy().tobytes()
