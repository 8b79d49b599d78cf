"""Tensors as their bytes alone."""

import pytest
import torch

from service.errors import MalformedBody
from service.formats.raw_tensors import check_length, read_raw, write_raw

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (2, 3), (1, 1, 1, 1), (3, 1, 2)])
def test_bytes_are_read_as_they_were_written(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Every type comes back to the last bit."""
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    content = write_raw(tensor)

    check_length("tensor/binary", len(content), shape, dtype)
    assert torch.equal(read_raw(content, shape, dtype), tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_in_order_with_any_strides(dtype: torch.dtype) -> None:
    """A transposed tensor, a repeated one, and a single value that stands far from the next."""
    numbers = torch.arange(6).reshape(2, 3).to(dtype)
    odd = torch.arange(16).to(dtype)[:1].as_strided((1, 1), (1, 16))

    assert write_raw(numbers.T) == write_raw(numbers.T.contiguous())
    assert write_raw(numbers[:1].expand(2, 3)) == 2 * write_raw(numbers[0])
    assert len(write_raw(odd)) == dtype.itemsize


def test_lowest_byte_comes_first() -> None:
    """As x86 and ARM have it in memory."""
    assert write_raw(torch.tensor([1.0], dtype=torch.bfloat16)) == b"\x80\x3f"
    assert write_raw(torch.tensor([1.0])) == b"\x00\x00\x80\x3f"


@pytest.mark.parametrize("size", [0, 11, 13, 2**40])
def test_other_length_is_refused(size: int) -> None:
    """The message has both lengths, the shape and the type."""
    with pytest.raises(MalformedBody, match=rf"it has {size:,} bytes, but 2×3 values of float16 have 12; send"):
        check_length("tensor/binary", size, (2, 3), torch.float16)


def test_length_of_a_hostile_shape_is_only_compared() -> None:
    """The service makes no tensor of that size."""
    with pytest.raises(MalformedBody):
        check_length("tensor/binary", 4, (2**31 - 1,) * 5, torch.float32)
