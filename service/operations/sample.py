"""Sample: random images, decoded from latents that are drawn from the prior, or from another sampler."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model_store.vae.family import SamplerName

from .noise import draw_seed, normal_noise
from .session import PIXEL_BYTES, PixelType, Session


@dataclass(frozen=True)
class Samples:
    """Images (B, C, H, W), the latents they were decoded from, and the seed of both."""

    images: Tensor
    latents: Tensor
    seed: int


def check_sample(session: Session, n: int, pixel_type: PixelType, sampler: SamplerName | None = None) -> None:
    """Check a request for `n` images before anything is computed, and before a client is told that it holds them.

    Raises:
        NotSupportedByModel: the model has no prior and no other sampler, or none of that name.
        TooLarge: more images than the limits allow.
        AnswerMemoryFull: the requests under way hold the memory.
    """
    session.sampler(sampler)
    session.admit(n, session.config.example_shape, latents=4, value_bytes=2 * PIXEL_BYTES[pixel_type])


async def sample(
    session: Session,
    n: int,
    *,
    seed: int | None = None,
    temperature: float = 1.0,
    sampler: SamplerName | None = None,
    pixel_type: PixelType = "float32",
) -> Samples:
    """`n` random images, by the sampler of that name or the model's first. Image i depends on the seed and i alone.

    Raises:
        NotSupportedByModel: the model has no prior and no other sampler, or none of that name.
        TooLarge: more images than the limits allow.
        AnswerMemoryFull, QueueFull, Unavailable: the service has no capacity now.
    """
    check_sample(session, n, pixel_type, sampler)
    session.check_room(n)
    seed = draw_seed() if seed is None else seed
    distribution = session.sampler(sampler)
    noise = temperature * await normal_noise(seed, n, *session.config.example_latent_shape)
    drawn = await session.by_prior(distribution, noise.nbytes, distribution.from_normal, noise)
    latents = session.prior.latents_of(drawn)
    return Samples(await session.images_of(latents, pixel_type), latents, seed)
