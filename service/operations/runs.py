"""Several sizes in one request: each run of images of the same size is one operation, and the noise goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from model_store.vae.family import ImageShape

from ..errors import ServiceError
from ..offload import offload
from .decode import admit_decode, decode
from .encode import Draw, Encoding, admit_encode, encode
from .noise import draw_seed
from .padding import Size, cropped_runs, padded, sizes_for
from .reconstruct import Reconstruction, admit_reconstruct, reconstruct
from .scaling import scaled_encoding
from .session import PixelType, Session


def shapes_of(runs: Sequence[Tensor]) -> list[ImageShape]:
    """The shape (C, H, W) of each image."""
    return [(run.shape[1], run.shape[2], run.shape[3]) for run in runs for _ in run]


async def encode_runs(
    session: Session,
    runs: Sequence[Tensor],
    *,
    draw: Draw = "mean",
    seed: int | None = None,
    is_scaled: bool = False,
) -> list[Encoding]:
    """Latents of uint8 pixels (B, C, H, W), for each run of images of the same size; smaller ones are padded.

    They are scaled if `is_scaled`.

    Raises:
        the errors of `encode`.
    """
    session.check_can("encode")
    if len(runs) > 1:  # a single run is checked and admitted by the operation itself
        admit_encode(session, _fitted_shapes(session, runs))
    seed = _shared_seed(runs, draw, seed)
    encodings: list[Encoding] = []
    first = 0
    for run in runs:
        with _counted_from(first):
            encodings.append(await encode(session, await fitted(session, run), draw=draw, seed=seed, first=first))
        first += len(run)
    if not is_scaled:
        return encodings
    scaling = session.config.latent_scaling
    return [await offload(each.latents.nbytes, scaled_encoding, each, scaling) for each in encodings]


async def decode_runs(
    session: Session,
    runs: Sequence[Tensor],
    *,
    sizes: Sequence[Size] = (),
    pixel_type: PixelType = "float32",
) -> list[Tensor]:
    """Images (B, C, H, W) of latents (B, …), for each run of the same shape, cut to the original `sizes`.

    Raises:
        the errors of `decode`.
        BadValue: there are sizes, but not one for all images or one for each, or are larger than the images.
    """
    shapes: list[ImageShape] = []
    for run in runs:
        with _counted_from(len(shapes)):
            shapes += [session.limits.check_latents(session.model, run)] * len(run)
    sizes = sizes_for(sizes, shapes) if sizes else ()
    admit_decode(session, Counter(shapes), pixel_type)
    images = [await decode(session, run, pixel_type=pixel_type) for run in runs]
    if not sizes:
        return images
    cut: list[Tensor] = []
    first = 0
    for run in images:
        cut += await offload(run.nbytes, cropped_runs, run, sizes[first : first + len(run)])
        first += len(run)
    return cut


async def reconstruct_runs(
    session: Session,
    runs: Sequence[Tensor],
    *,
    draw: Draw = "mean",
    seed: int | None = None,
    pixel_type: PixelType = "float32",
) -> list[Reconstruction]:
    """Uint8 pixels (B, C, H, W), encoded and decoded again, for each run of images of the same size.

    Raises:
        the errors of `reconstruct`.
    """
    session.check_can("reconstruct")
    if len(runs) > 1:
        admit_reconstruct(session, _fitted_shapes(session, runs), pixel_type)
    seed = _shared_seed(runs, draw, seed)
    reconstructions: list[Reconstruction] = []
    first = 0
    for run in runs:
        work = reconstruct(
            session,
            await fitted(session, run),
            draw=draw,
            seed=seed,
            first=first,
            size=run.shape[2:] if session.config.takes_any_size else None,
            pixel_type=pixel_type,
        )
        with _counted_from(first):
            reconstructions.append(await work)
        first += len(run)
    return reconstructions


async def fitted(session: Session, pixels: Tensor) -> Tensor:
    """Pixels (B, C, H, W), padded to the next size that a model of any size takes."""
    if not session.config.takes_any_size:
        return pixels
    _, height, width = session.config.fitting_shape(pixels.shape[2], pixels.shape[3])
    return await offload(pixels.nbytes, padded, pixels, height, width)


@contextmanager
def _counted_from(first: int) -> Iterator[None]:
    """Let an error about one row of a run name the place of the row in the request."""
    try:
        yield
    except ServiceError as error:
        if error.index is not None:
            error.index += first
        raise


def _fitted_shapes(session: Session, runs: Sequence[Tensor]) -> Counter[ImageShape]:
    """The number of images of each shape (C, H, W), after they are padded."""
    counts: Counter[ImageShape] = Counter()
    for run in runs:
        if session.config.takes_any_size:
            counts[session.config.fitting_shape(run.shape[2], run.shape[3])] += len(run)
        else:
            counts[session.limits.check_images(session.model, run)] += len(run)
    return counts


def _shared_seed(runs: Sequence[Tensor], draw: Draw, seed: int | None) -> int | None:
    """The seed that all runs share: the answer tells one seed. A single run draws its seed itself if it needs one."""
    return draw_seed() if seed is None and draw == "sample" and len(runs) > 1 else seed
