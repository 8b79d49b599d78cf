"""What is optimised. The bound itself is `model_store.vae.elbo`'s; here stands what training makes of it."""

from torch import Tensor

from model_store.vae import Bound


def loss(bound: Bound) -> Tensor:
    """The negative evidence lower bound, the mean over the images, in nats."""
    return -bound.elbo_nats.mean()
