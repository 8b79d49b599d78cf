"""Tensors as files: NumPy's npy and safetensors. Neither format can run code."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import orjson
import safetensors.numpy
import safetensors.torch
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError
from torch import Tensor

from ..errors import BadValue, MalformedBody

NPY = "application/x-npy"
SAFETENSORS = "application/vnd.safetensors"

# names of tensors in answers; clients send them back
ANSWERED = frozenset({"latents", "mean", "log_variance", "images"})

_NUMBERED = re.compile(r"\.(0|[1-9][0-9]{0,3})$")  # behind the name, where rows have several shapes
_MAX_DIMENSIONS = 8
_MAX_VALUES = 2**31  # the largest body, if a value has one byte
# one tensor needs 100 bytes; a header of many empty tensors would become many Python objects
_MAX_HEADER_BYTES = 65_536
# The header of one array of eight dimensions has 250 characters. NumPy takes 10,000 and may read them twice, in 20 ms.
_MAX_NPY_HEADER = 1000
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(content: bytes, dtypes: Collection[torch.dtype], name: str) -> Tensor:
    """The array of an npy file; `name` says in errors what the array holds.

    Raises:
        MalformedBody: the body is not an npy file, or its header contradicts its length.
        BadValue: the array's type is not among the `dtypes`.
    """
    file = io.BytesIO(content)
    try:
        shape, is_fortran_order, dtype = _HEADER_READERS[npy.read_magic(file)](file, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:  # the header is text of Python, and NumPy raises errors of many types for odd ones
        raise MalformedBody(NPY, "its header cannot be read") from error
    _check_shape(NPY, shape)
    _check_dtype(dtype.name, dtypes, name)
    if (size := len(content) - file.tell()) != math.prod(shape) * dtype.itemsize:
        raise MalformedBody(NPY, f"it has {size} bytes of data, its header says {shape} of {dtype}")
    array = np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran_order else "C")
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))


def read_safetensors(content: bytes, dtypes: Mapping[str, Collection[torch.dtype]]) -> tuple[str, list[Tensor]]:
    """The first tensor of a safetensors file that `dtypes` names, and its name.

    Rows of several shapes are tensors of their own, `latents.0`, `latents.1` and so on: then there is a tensor (1, …)
    for each. Other tensors of the service's own answers are ignored, and so is metadata.

    Raises:
        MalformedBody: the body is not a safetensors file.
        BadValue: the file has no tensor of these names, a tensor with an unknown name, the tensor has none of its
            `dtypes`, or the header is too long.
    """
    header_bytes = int.from_bytes(content[:8], "little")
    if _MAX_HEADER_BYTES < header_bytes <= len(content):
        raise BadValue(
            f"The body's header has {header_bytes:,} bytes, the limit is {_MAX_HEADER_BYTES:,}; send one tensor "
            "with little metadata."
        )
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise MalformedBody(SAFETENSORS, "its header cannot be read, or contradicts its length") from error
    wanted = " or ".join(dtypes)
    if unknown := next((name for name in tensors if _NUMBERED.sub("", name) not in ANSWERED), None):
        raise BadValue(f"The body has a tensor with the unknown name {unknown[:80]}; send it with the name {wanted}.")
    name = next((name for name in dtypes if name in tensors or f"{name}.0" in tensors), None)
    if name is None:
        raise BadValue(f"The body has no tensor with the name {wanted}; send one.")
    found = [tensors[name]] if name in tensors else _numbered(tensors, name)
    for tensor in found:
        _check_shape(SAFETENSORS, tensor.shape)
        _check_dtype(str(tensor.dtype).removeprefix("torch."), dtypes[name], name)
    return name, found


def _numbered(tensors: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """The tensors `name.0`, `name.1` and so on, as rows (1, …)."""
    count = sum(key.startswith(f"{name}.") for key in tensors)
    if missing := next((index for index in range(count) if f"{name}.{index}" not in tensors), None):
        raise BadValue(f"The body has {count} tensors {name}.N, but not {name}.{missing}; number them from 0.")
    return [tensors[f"{name}.{index}"].unsqueeze(0) for index in range(count)]


def write_npy(tensor: Tensor) -> bytes:
    """The bytes of an npy file."""
    array = np.ascontiguousarray(tensor.numpy())
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
    return b"".join((header.getvalue(), array.data))  # np.save needs two copies more


def read_metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that `read_safetensors` has read."""
    header_bytes = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] | None = orjson.loads(content[8 : 8 + header_bytes]).get("__metadata__")
    return metadata or {}


def write_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file."""
    if any(tensor.dtype == torch.bfloat16 for tensor in tensors.values()):  # NumPy does not have this type
        copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        return safetensors.torch.save(copies, dict(metadata) if metadata else None)
    # through NumPy: the writer for torch refuses two names for the same memory
    arrays = {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
    return safetensors.numpy.save(arrays, dict(metadata) if metadata else None)


def _check_shape(media_type: str, shape: Sequence[object]) -> None:
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise MalformedBody(media_type, f"its shape is not a list of at most {_MAX_DIMENSIONS} whole numbers")
    # NumPy and torch multiply the sides of an empty array too
    if math.prod(side for side in shape if isinstance(side, int) and side) >= _MAX_VALUES:
        raise MalformedBody(media_type, f"its shape has more than {_MAX_VALUES:,} values; send fewer in one request")


def _check_dtype(found: str, dtypes: Collection[torch.dtype], name: str) -> None:
    expected = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    if found not in expected:
        raise BadValue(f"The {name} have the type {found[:40]}; expected {' or '.join(expected)}.")
