"""The bound and its parts, against torch.distributions and against a sum over everything there is."""

import itertools

import torch
from torch.distributions import Bernoulli as ReferenceBernoulli
from torch.distributions import Independent, Normal

from model_store.vae import VAE, Bernoulli, MLPConfig, StandardNormal, VAEConfig

from ...bounds import bound_of


def tiny_vae(pixels: int = 4) -> VAE:
    """A model with so few pixels that all its images can be listed."""
    torch.manual_seed(4)
    return VAE(VAEConfig(image_shape=(1, 1, pixels), latent_shape=(2,), network=MLPConfig(hidden=(8,))))


def test_log_likelihood_agrees_with_torch_distributions() -> None:
    """The Bernoulli log-likelihood is the one that torch computes, summed over the pixels."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, 1, 5, 5, generator=generator)
    images = torch.bernoulli(torch.full((6, 1, 5, 5), 0.3), generator=generator)

    expected = Independent(ReferenceBernoulli(logits=logits), 3).log_prob(images)

    torch.testing.assert_close(Bernoulli(logits).log_prob(images), expected)


def test_likelihood_of_all_images_sums_to_one() -> None:
    """A likelihood is a probability: over all 2⁴ binary images of four pixels it sums to 1."""
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 1, 1, 4)
    likelihood = tiny_vae().decode(torch.full((16, 2), 0.7))

    assert torch.isclose(likelihood.log_prob(images).exp().sum(), torch.tensor(1.0))


def test_prior_density_agrees_with_torch_distributions() -> None:
    """p(z) is the standard normal."""
    latents = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(6))

    expected = Normal(0.0, 1.0).log_prob(latents).flatten(1).sum(1)

    torch.testing.assert_close(StandardNormal().log_prob(latents), expected)


def test_elbo_is_log_likelihood_minus_kl() -> None:
    """The two terms are given apart, and the bound is their difference."""
    model, images = tiny_vae(), torch.ones(3, 1, 1, 4)
    terms = bound_of(model, images, torch.zeros(3, 2))
    posterior = model.posterior(images)

    torch.testing.assert_close(terms.kl_nats, posterior.kl_nats())
    torch.testing.assert_close(terms.elbo_nats, model.decode(posterior.mean).log_prob(images) - posterior.kl_nats())


def test_mean_bound_lies_below_the_evidence() -> None:
    """Jensen: the bound, averaged over draws, is at most log p(x), here integrated on a fine grid over the latents.

    The average of 20 000 draws has a standard error far below the gap, so that a false alarm has no measurable
    probability.
    """
    model, image = tiny_vae(), torch.tensor([1.0, 0.0, 1.0, 1.0]).view(1, 1, 1, 4)
    axis = torch.linspace(-6, 6, 241)
    latents = torch.cartesian_prod(axis, axis)
    joint = StandardNormal().log_prob(latents) + model.decode(latents).log_prob(image.expand(len(latents), -1, -1, -1))
    evidence = joint.logsumexp(0) + 2 * torch.log(axis[1] - axis[0])

    draws = bound_of(
        model, image.expand(20_000, -1, -1, -1), torch.randn(20_000, 2, generator=torch.Generator().manual_seed(7))
    )

    assert draws.elbo_nats.mean() < evidence
