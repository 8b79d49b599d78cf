"""Files of arrays with odd headers are refused with an error of the service's own."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from service.errors import BadValue, MalformedBody
from service.formats.tensors import read_npy, read_safetensors

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def npy(header: str, data: bytes = bytes(8)) -> bytes:
    """An npy file with this header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode("latin-1") + data


def with_shape(shape: str, data: bytes = b"") -> bytes:
    """An npy file of floats with this shape."""
    return npy(GOOD.replace("(2,)", shape), data)


def tensors(**shapes: list[object]) -> bytes:
    """A safetensors file of empty tensors with these shapes."""
    header = json.dumps(
        {name: {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    return struct.pack("<Q", len(header)) + header.encode()


NPY = {
    "an empty array with long sides": with_shape("(0, 2147483647, 2147483647, 2147483647)"),
    "the same with the empty side last": with_shape("(2147483647, 2147483647, 4, 0)"),
    "the same in Fortran's order": with_shape("(4, 2147483647, 2147483647, 0)").replace(b"False", b"True "),
    "an empty array of one long side": with_shape("(0, 2147483648)"),
    "nine dimensions": with_shape("(1, 1, 1, 1, 1, 1, 1, 1, 1)", bytes(4)),
    "a negative side": with_shape("(-1,)"),
    "sides that are truth values": with_shape("(True, True)", bytes(4)),
    "a side of 400 digits": with_shape(f"({10**400},)"),
    "a list as shape": with_shape("[2]"),
    "a number of Python 2": with_shape("(2L,)", bytes(8)),
    "a type of nothing": npy(GOOD.replace("'<f4'", "((),)")),
    "a type with a negative shape": npy(GOOD.replace("'<f4'", "('<f4', (-1,))")),
    "a type that is unknown": npy(GOOD.replace("<f4", "<f99")),
    "a good one with 950 spaces": npy(GOOD + " " * 950),
    "brackets": npy("[" * 9000),
    "signs": npy("-" * 9000 + "1"),
    "a call": npy("'a'()"),
    "nothing": npy(""),
    "a header that is cut off": b"\x93NUMPY\1\0\xff\xff",
}


@pytest.mark.parametrize("name", NPY)
def test_npy_with_an_odd_header_is_malformed(name: str) -> None:
    """The header is text of Python, which NumPy reads with errors of many types."""
    with pytest.raises(MalformedBody):
        read_npy(NPY[name], [torch.float32], "images")


@pytest.mark.parametrize("descr", ["'|O'", "'|V0'", "'<U0'", "'<M8[ns]'", "'(2,2)<f4'", "[('a', '<f4')]", "'<c8'"])
def test_npy_of_another_type_is_refused(descr: str) -> None:
    """The message names the types that are taken."""
    with pytest.raises(BadValue, match=r"expected float32\."):
        read_npy(npy(GOOD.replace("'<f4'", descr)), [torch.float32], "images")


SAFETENSORS = {
    "an empty array with long sides": tensors(images=[0, 2**31 - 1, 2**31 - 1, 4]),
    "an empty array with two long sides": tensors(images=[2**31 - 1, 2**31 - 1, 0]),
    "an array beside it": tensors(images=[0, 1, 8, 8], mean=[0, 2**63]),
    "nine dimensions": tensors(images=[0, 1, 1, 1, 1, 1, 1, 1, 1]),
    "a negative side": tensors(images=[-1]),
    "a side that is a fraction": tensors(images=[0.5]),
    "a list": struct.pack("<Q", 2) + b"[]",
    "nothing": b"",
    "a length beyond its end": b"\xff" * 8,
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_with_an_odd_header_is_malformed(name: str) -> None:
    """Empty tensors need no bytes, so that their sides can be any numbers."""
    with pytest.raises(MalformedBody):
        read_safetensors(SAFETENSORS[name], {"images": [torch.uint8]})
