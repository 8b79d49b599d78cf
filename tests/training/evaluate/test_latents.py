"""The statistics of latents say which dimensions tell something about an image."""

from __future__ import annotations

import torch
from torch.distributions import Normal, kl_divergence

from model_store import VAE
from model_store.vae import MLPConfig, VAEConfig
from model_store.vae.pixels import to_images
from training.evaluate.latents import latent_use


def test_kl_of_a_learned_prior_is_to_the_gaussian_of_each_dimension() -> None:
    """The reference is torch's divergence, image by image, to the moments of all posteriors."""
    torch.manual_seed(0)
    config = {"image_shape": (1, 4, 4), "latent_shape": (3,), "network": MLPConfig(hidden=(8,))}
    model = VAE(VAEConfig.model_validate({**config, "prior": {"kind": "mixture"}}))
    pixels = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        posterior = model.posterior(to_images(pixels))

    use = latent_use(model, pixels)
    each = Normal(posterior.mean.double(), (0.5 * posterior.log_variance).exp().double())
    expected = kl_divergence(each, Normal(use.mean, use.standard_deviation)).mean(0)

    assert use.kl_nats is not None
    torch.testing.assert_close(use.kl_nats, expected)
