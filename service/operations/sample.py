"""Sample: random images, decoded from latents that are drawn from the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from model_store.vae.priors import Prior

from .noise import draw_seed, normal_noise
from .session import PIXEL_BYTES, PixelType, Session


@dataclass(frozen=True)
class Samples:
    """Images (B, C, H, W), the latents they were decoded from, and the seed of both."""

    images: Tensor
    latents: Tensor
    seed: int


def check_sample(session: Session, n: int, pixel_type: PixelType) -> None:
    """Check a request for `n` images before anything is computed, and before a client is told that it holds them.

    Raises:
        NotSupportedByModel: the model has no prior.
        TooLarge: more images than the limits allow.
        AnswerMemoryFull: the requests under way hold the memory.
    """
    session.check_can("sample")
    session.admit(n, session.config.example_shape, latents=4, value_bytes=2 * PIXEL_BYTES[pixel_type])


async def sample(
    session: Session,
    n: int,
    *,
    seed: int | None = None,
    temperature: float = 1.0,
    pixel_type: PixelType = "float32",
) -> Samples:
    """`n` random images. Image i depends on the seed and i alone.

    Raises:
        NotSupportedByModel: the model has no prior.
        TooLarge: more images than the limits allow.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    check_sample(session, n, pixel_type)
    session.check_room(n)
    seed = draw_seed() if seed is None else seed
    prior = cast("Prior", session.prior)  # a model that can sample has one
    latents = prior.sample(await normal_noise(seed, n, *session.config.example_latent_shape), temperature)
    return Samples(await session.images_of(latents, pixel_type), latents, seed)
