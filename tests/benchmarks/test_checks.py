"""Right and wrong answers."""

import io
import json

import pytest
import torch
from PIL import Image

from benchmarks.serving import checks, pictures
from benchmarks.serving.cases import Operation
from benchmarks.serving.pictures import Material

from ..conftest import GREY, make_model


@pytest.fixture
def material() -> Material:
    """Inputs of a small network, and its answers."""
    return pictures.material(make_model(GREY).eval(), None, 4)


def encoded(latents: torch.Tensor) -> bytes:
    """Most servers answer in this form."""
    return json.dumps({"latents": latents[:1].tolist()}).encode()


def test_right_latents_pass_in_each_dialect(material: Material) -> None:
    """Our form of JSON is read, and that of the Open Inference Protocol."""
    dialect = {"outputs": [{"name": "latents", "shape": [1, 3], "data": material.latents[0].tolist()}]}

    checks.compare(Operation.ENCODE, encoded(material.latents), material)
    checks.compare(Operation.ENCODE, json.dumps(dialect).encode(), material)


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"latents": [[1]]}', b'{"latents": [[null, 0, 0]]}'])
def test_unreadable_latents_are_wrong(material: Material, answer: bytes) -> None:
    """The benchmark goes on after it."""
    with pytest.raises(checks.Wrong):
        checks.compare(Operation.ENCODE, answer, material)


def test_latents_of_another_network_are_wrong(material: Material) -> None:
    """The message has the distance."""
    with pytest.raises(checks.Wrong, match=r"differ by 0\.0?0?2"):
        checks.compare(Operation.ENCODE, encoded(material.latents + 0.002), material)


def test_picture_of_another_size_is_wrong(material: Material) -> None:
    """A sample is as large as the model's images."""
    buffer = io.BytesIO()
    Image.new("L", (9, 8)).save(buffer, "PNG")

    checks.compare(Operation.SAMPLE, b"a header" + pictures.png(material.pixels[0]), material)
    with pytest.raises(checks.Wrong, match=r"expected \(1, 8, 8\)"):
        checks.compare(Operation.SAMPLE, buffer.getvalue(), material)


def test_batches_are_compared_whole(material: Material) -> None:
    """A decoded pixel may differ by one level, for it is rounded, but not by two."""
    right = pictures.channels_last(material.decoded)

    checks.compare(Operation.BATCH_ENCODE, pictures.npy(material.latents), material)
    checks.compare(Operation.BATCH_DECODE, pictures.npy(right), material)
    with pytest.raises(checks.Wrong, match="pixels differ by 2"):
        checks.compare(Operation.BATCH_DECODE, pictures.npy(right.clamp(2, 255) - 2 * (right > 4)), material)
