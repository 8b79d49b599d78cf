"""The probability integral transform: a uniform prior is a normal one, seen through Φ, and nothing is lost."""

import math

import torch
from torch.distributions import Beta, Normal

from model_store.vae import VAE, DiagonalGaussian, MLPConfig, Uniform, UniformConfig, VAEConfig
from model_store.vae.elbo import log_weight

from ...bounds import bound_of


def gaussian() -> DiagonalGaussian:
    """Three posteriors of four dimensions, near enough to 0 that Φ does not round to 1."""
    generator = torch.Generator().manual_seed(1)
    return DiagonalGaussian(torch.rand(3, 4, generator=generator), -2 * torch.rand(3, 4, generator=generator))


def test_transformed_noise_is_uniform() -> None:
    """The empirical distribution of 100 000 draws is nowhere farther than 0.012 from the uniform one.

    By Dvoretzky, Kiefer and Wolfowitz a false alarm has a probability below 2 exp(−2 · 100 000 · 0.012²) = 6e-13.
    """
    draws = Uniform().sample(torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0)))[:, 0].sort().values
    expected = (torch.arange(100_000) + 0.5) / 100_000

    assert (draws - expected).abs().max() < 0.012


def test_kl_is_the_same_on_both_sides_of_the_transform() -> None:
    """Monte Carlo in the unit cube gives the closed KL of the normal coordinates, within 6 standard errors.

    There the prior's density is 1 and the posterior's q(z)/φ(z). A false alarm in one of three: 6e-9.
    """
    posterior, draws = gaussian(), 20_000
    noise = torch.randn(draws, 3, 4, generator=torch.Generator().manual_seed(2))
    normal = posterior.mean + (0.5 * posterior.log_variance).exp() * noise
    latents = Uniform().latents_of(normal.double())
    back = torch.special.ndtri(latents)
    scale = (0.5 * posterior.log_variance).exp().double()
    density = Normal(posterior.mean.double(), scale).log_prob(back) - Normal(0.0, 1.0).log_prob(back)
    ratios = density.sum(2)  # log q(u) − log p(u), since log p(u) = 0

    error = ratios.std(0) / math.sqrt(draws)

    assert ((ratios.mean(0) - posterior.kl_nats()).abs() < 6 * error).all()


def test_importance_weights_are_those_of_the_unit_cube() -> None:
    """p(x|u) p(u) / q(u|x), computed in the cube, is the weight that normal coordinates give."""
    posterior = gaussian()
    normal = posterior.sample(torch.randn(3, 4, generator=torch.Generator().manual_seed(3)))
    log_likelihood = torch.tensor([-80.0, -90.0, -100.0])
    jacobian = Normal(0.0, 1.0).log_prob(normal).sum(1)  # log |du/dz|
    in_the_cube = log_likelihood + Uniform().log_prob(normal) - jacobian - (posterior.log_prob(normal) - jacobian)

    torch.testing.assert_close(log_weight(posterior, Uniform(), normal, log_likelihood), in_the_cube)


def test_normal_coordinates_of_latents_are_where_they_came_from() -> None:
    """The two transforms undo each other; the corners of the cube have finite coordinates."""
    normal = torch.linspace(-4, 4, 33).unsqueeze(1)

    torch.testing.assert_close(Uniform().coordinates_of(Uniform().latents_of(normal)), normal, atol=2e-3, rtol=0)
    assert Uniform().coordinates_of(torch.tensor([[0.0, 1.0]])).isfinite().all()


def test_density_is_that_of_the_unit_cube() -> None:
    """Divided by the Jacobian determinant of Φ it is the density of torch's Beta(1, 1), which is uniform."""
    latents = torch.tensor([[0.2, 0.9], [0.5, 0.5]])
    coordinates = Uniform().coordinates_of(latents)
    jacobian = Normal(0.0, 1.0).log_prob(coordinates).sum(1)  # log |du/dz|

    expected = Beta(torch.ones(2), torch.ones(2)).log_prob(latents).sum(1)

    torch.testing.assert_close(Uniform().log_prob(coordinates) - jacobian, expected)


def test_decoder_of_a_uniform_model_reads_the_unit_cube() -> None:
    """The latents that a bound decodes lie between 0 and 1."""
    torch.manual_seed(4)
    model = VAE(
        VAEConfig(image_shape=(1, 4, 4), latent_shape=(2,), network=MLPConfig(hidden=(8,)), prior=UniformConfig())
    )
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, latents: seen.append(latents[0]))

    bound_of(model, torch.ones(5, 1, 4, 4), torch.randn(5, 2))

    assert 0 <= seen[0].min() <= seen[0].max() <= 1
