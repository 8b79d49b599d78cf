"""The posterior against torch.distributions, against Monte Carlo, and against its own definition."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from model_store.vae import DiagonalGaussian


def random_posterior(*shape: int) -> DiagonalGaussian:
    """A posterior with means and log-variances as encoders give them."""
    generator = torch.Generator().manual_seed(1)
    return DiagonalGaussian(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def reference(posterior: DiagonalGaussian) -> Independent[Normal]:
    """The same distribution, of torch.distributions."""
    scale = (0.5 * posterior.log_variance).exp()
    return Independent(Normal(posterior.mean, scale), posterior.mean.ndim - 1)


@pytest.mark.parametrize("shape", [(5, 32), (5, 4, 8, 8)], ids=["vector", "grid"])
def test_kl_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    """The closed KL is the one that torch computes, one number per image."""
    posterior = random_posterior(*shape)
    prior = Independent(Normal(torch.zeros(shape), torch.ones(shape)), len(shape) - 1)

    torch.testing.assert_close(posterior.kl_nats(), kl_divergence(reference(posterior), prior))


@pytest.mark.parametrize("shape", [(5, 32), (5, 4, 8, 8)], ids=["vector", "grid"])
def test_log_prob_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    """The density is the one that torch computes, one number per image."""
    posterior = random_posterior(*shape)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(2))

    torch.testing.assert_close(posterior.log_prob(latents), reference(posterior).log_prob(latents))


def test_kl_is_zero_exactly_at_the_prior() -> None:
    """A posterior that is the prior tells nothing about its image."""
    posterior = DiagonalGaussian(torch.zeros(3, 8), torch.zeros(3, 8))

    assert posterior.kl_nats().tolist() == [0, 0, 0]


def test_sample_without_noise_is_the_mean() -> None:
    """Without noise the draw is the mean."""
    posterior = random_posterior(4, 8)

    assert torch.equal(posterior.sample(torch.zeros(4, 8)), posterior.mean)


def test_samples_have_the_mean_and_variance_that_were_asked_for() -> None:
    """The mean of 40 000 draws lies within 6 standard errors of μ, and their variance within 6 of σ².

    Each of the 16 comparisons of a normal statistic fails by chance with a probability of 2e-9.
    """
    draws = 40_000
    posterior = random_posterior(1, 8)
    noise = torch.randn(draws, 8, generator=torch.Generator().manual_seed(3))
    variance = posterior.log_variance[0].exp()

    samples = posterior.sample(noise)

    assert ((samples.mean(0) - posterior.mean[0]).abs() < 6 * (variance / draws).sqrt()).all()
    assert ((samples.var(0) - variance).abs() < 6 * variance * math.sqrt(2 / (draws - 1))).all()


def test_gradients_flow_through_a_draw() -> None:
    """The reparameterisation: dz/dμ = 1 and dz/d log σ² = ½ σ ε."""
    mean = torch.zeros(1, 3, requires_grad=True)
    log_variance = torch.tensor([[0.0, 1.0, -1.0]], requires_grad=True)
    noise = torch.tensor([[0.5, -2.0, 1.0]])

    DiagonalGaussian(mean, log_variance).sample(noise).sum().backward()

    torch.testing.assert_close(mean.grad, torch.ones(1, 3))
    torch.testing.assert_close(log_variance.grad, 0.5 * (0.5 * log_variance).exp().detach() * noise)


def test_reparameterised_gradient_has_the_closed_one_as_its_mean() -> None:
    """The gradients of E[Σ z³] are 3(μ² + σ²) for μ and 3μσ² for log σ², within 6 standard errors: 4e-9 each."""
    posterior = random_posterior(1, 4)
    by_mean, by_log_variance = gradients_through_draws(posterior, draws=40_000)
    variance = posterior.log_variance.exp()[0]
    mean = posterior.mean[0]

    for found, closed in ((by_mean, 3 * (mean**2 + variance)), (by_log_variance, 3 * mean * variance)):
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - closed).abs() < 6 * error).all()


def test_reparameterised_gradient_varies_less_than_the_score_functions() -> None:
    """Both are unbiased; the score function's f(z) ∇ log q(z) has ten times the variance and more, over all dimensions.

    f is Σ z³ over 8 dimensions: every one of them adds to the noise of all others' scores, but not of their slopes.
    """
    posterior = random_posterior(1, 8)
    noise = torch.randn(40_000, 8, generator=torch.Generator().manual_seed(6))
    draws = posterior.sample(noise)
    value = draws.pow(3).sum(1, keepdim=True)
    score = noise / (0.5 * posterior.log_variance).exp()  # ∇_μ log q(z)
    by_score, (by_draw, _) = value * score, gradients_through_draws(posterior, draws=40_000)

    error = (by_score.std(0) + by_draw.std(0)) / math.sqrt(40_000)
    assert ((by_score.mean(0) - by_draw.mean(0)).abs() < 6 * error).all()
    assert by_score.var(0).sum() > 10 * by_draw.var(0).sum()


def gradients_through_draws(posterior: DiagonalGaussian, draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For each draw the gradient of Σ z³ by the mean and by the log-variance, (draws, D), by autograd."""
    mean = posterior.mean.expand(draws, -1).clone().requires_grad_()
    log_variance = posterior.log_variance.expand(draws, -1).clone().requires_grad_()
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    cubes = DiagonalGaussian(mean, log_variance).sample(noise).pow(3).sum()
    return torch.autograd.grad(cubes, (mean, log_variance))  # type: ignore[return-value]  # as many as inputs: two
