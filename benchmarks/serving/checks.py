"""Checks of answers. A server that answers wrongly is not measured; the report names it with the difference.

Each server has its own form of answer: latents in JSON, a picture, or a picture behind a header.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from . import pictures
from .cases import Operation
from .load import Request
from .pictures import Material

TOLERANCE = 1e-3  # of a latent: float32 summed in another order, never another network
LEVELS = 1  # of 256, by which a decoded pixel may differ
TIMEOUT_S = 10.0
_PNG = b"\x89PNG\r\n\x1a\n"


class Wrong(Exception):
    """An answer differs from our own forward pass in torch; the message tells how."""


class NotYet(Wrong):
    """An answer has another status than 200. Many servers give one while they load."""


def check(url: str, operation: Operation, request: Request, material: Material, tolerance: float = TOLERANCE) -> None:
    """Send the first body once, and compare the answer.

    Raises:
        NotYet: the answer is an error.
        Wrong: the answer differs.
        httpx.TransportError: there is none.
    """
    body = request.bodies[0] if request.bodies else None
    answer = httpx.request(request.method, url, headers=request.headers, content=body, timeout=TIMEOUT_S)
    if answer.status_code != httpx.codes.OK:
        raise NotYet(f"{operation}: status {answer.status_code}")
    compare(operation, answer.content, material, tolerance)


def compare(operation: Operation, content: bytes, material: Material, tolerance: float = TOLERANCE) -> None:
    """Compare an answer with the right one.

    Raises:
        Wrong: it differs.
    """
    try:
        _CHECKS[operation](content, material, tolerance)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise Wrong(f"{operation}: the answer cannot be read ({error})") from error


def latents_in_json(content: bytes) -> NDArray[np.float64]:
    """All numbers of an answer's latents: `{"latents": …}`, or the Open Inference Protocol's first output.

    Raises:
        ValueError, KeyError, TypeError, IndexError: there are none.
    """
    answer: dict[str, Any] = json.loads(content)
    found = answer["latents"] if "latents" in answer else answer["outputs"][0]["data"]
    return np.asarray(found, dtype=np.float64).reshape(-1)


def _check_latents(content: bytes, material: Material, tolerance: float) -> None:
    _close(latents_in_json(content), material.latents[0].numpy().reshape(-1), tolerance, "latents")


def _check_sample(content: bytes, material: Material, _: float) -> None:
    """Accept any picture of the right size and kind, because a sample without a seed is random."""
    picture = pictures.read_picture(content[content.index(_PNG) :])
    channels, height, width = material.pixels.shape[1:]
    got = (len(picture.getbands()), picture.height, picture.width)
    if got != (channels, height, width):
        raise Wrong(f"sample: a picture of {got}, expected {(channels, height, width)}")


def _check_batch_of_latents(content: bytes, material: Material, tolerance: float) -> None:
    _close(pictures.read_npy(content), material.latents.numpy(), tolerance, "latents")


def _check_batch_of_pixels(content: bytes, material: Material, _: float) -> None:
    _close(pictures.read_npy(content), pictures.channels_last(material.decoded).numpy(), LEVELS, "pixels")


def _close(got: NDArray[Any], expected: NDArray[Any], tolerance: float, name: str) -> None:
    if got.shape != expected.shape:
        raise Wrong(f"{name} of shape {got.shape}, expected {expected.shape}")
    distance = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max())
    if not distance <= tolerance:
        raise Wrong(f"{name} differ by {distance:.3g} from our torch forward, at most {tolerance:g} is right")


_CHECKS = {
    Operation.ENCODE: _check_latents,
    Operation.SAMPLE: _check_sample,
    Operation.BATCH_ENCODE: _check_batch_of_latents,
    Operation.BATCH_DECODE: _check_batch_of_pixels,
    Operation.BATCH_RECONSTRUCT: _check_batch_of_pixels,
}
