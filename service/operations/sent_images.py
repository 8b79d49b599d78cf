"""Pictures and arrays that a client has sent become pixels that the model takes, within the limits of the session.

Every protocol that reads images needs this. It knows no HTTP: a protocol has read the body, and calls the processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod

from model_store.pictures import Pixels, Resize
from model_store.vae.family import ImageShape

from ..errors import BadValue
from ..formats import pictures
from ..formats.target import Target
from ..offload import LIGHT_PICTURE_COST
from .padding import Fit, are_padded
from .session import Session

DECODED_BYTES = 2  # for each value of an image: its pixels alone, and among the others


def target_of(session: Session, resize: Resize, fit: Fit = "none") -> Target:
    """The shapes of the images that the model takes, and the session's limits of pixels.

    With `fit=pad` images keep their size, and it may be one that the model does not take.

    Raises:
        BadValue: the images cannot be both resized and padded.
    """
    config, limits = session.config, session.limits
    if are_padded(fit, config) and resize != "none":
        raise BadValue(f"resize={resize} and fit=pad exclude each other; leave out one of them.")
    return Target(
        session.model.version,
        config.image_shape,
        resize,
        limits.picture_pixels,
        limits.pixels,
        config.multiple,
        are_padded=are_padded(fit, config),
        background=session.model.card.background,
    )


def decode_if_light(session: Session, files: Sequence[bytes], target: Target) -> list[Pixels] | None:
    """Pixels uint8 (B, C, H, W) of encoded pictures, for each run of the same size; None if they need a process.

    Raises:
        the errors of `pictures.inspect_all` and `pictures.decode`.
        AnswerMemoryFull, QueueFull: the service has no room for the images now.
    """
    structures = pictures.inspect_all(files, target)
    session.check_room(len(structures))
    fitted = [target.shape_of(structure.height, structure.width) for structure in structures]
    admit_read(session, ((shape, 1) for shape in fitted))
    costs = (max(structure.cost, prod(shape[1:])) for structure, shape in zip(structures, fitted, strict=True))
    return pictures.decode(structures, target) if sum(costs) <= LIGHT_PICTURE_COST else None


def admit_array(session: Session, shape: Sequence[int], target: Target, *, value_bytes: int = DECODED_BYTES) -> None:
    """Check the shape (B, C, H, W) of an array of images, and reserve memory for the images as they are resized.

    Reading takes `value_bytes` for each value, beside the body.

    Raises:
        TooLarge: the images are too many or too large.
        AnswerMemoryFull, QueueFull: the service has no room for the images now.
    """
    admit_read(session, [(target.shape_of(*shape[2:]), shape[0])], value_bytes=value_bytes)
    pictures.check_array(shape, target)
    session.check_room(shape[0])


def admit_read(session: Session, runs: Iterable[tuple[ImageShape, int]], *, value_bytes: int = DECODED_BYTES) -> None:
    """Reserve memory for runs of images that are read: a shape (C, H, W), and the number of images.

    Padding makes them fit the model.
    """
    fitting: Counter[ImageShape] = Counter()
    for (_, height, width), count in runs:
        fitting[session.config.fitting_shape(height, width)] += count
    session.admit_each(fitting, latents=0, value_bytes=value_bytes)
