"""Likelihoods against torch.distributions, and against a sum over every value of a pixel."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from model_store.vae import (
    VAE,
    BernoulliConfig,
    DiscretisedLogistic,
    DiscretisedLogisticConfig,
    Gaussian,
    GaussianConfig,
    LogisticMixture,
    LogisticMixtureConfig,
    MLPConfig,
    VAEConfig,
    bits_per_dimension,
)
from model_store.vae.likelihoods import decoder_numbers
from model_store.vae.likelihoods import likelihood as likelihood_of

LEVELS = torch.arange(256) / 255


def random(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in place of a decoder's."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_gaussian_agrees_with_torch_distributions() -> None:
    """The density is the one that torch computes, summed over the pixels."""
    location, log_variance, images = random(6, 3, 4, 4), random(6, 3, 4, 4, seed=1), random(6, 3, 4, 4, seed=2)

    expected = Independent(Normal(location, (0.5 * log_variance).exp()), 3).log_prob(images)

    torch.testing.assert_close(Gaussian(location, log_variance).log_prob(images), expected)


def test_gaussian_of_fixed_variance_is_the_squared_error() -> None:
    """Between two images the log-likelihood differs by the squared errors over 2σ²: idea 2's loss."""
    torch.manual_seed(3)
    fixed = GaussianConfig(standard_deviation=0.5)
    config = VAEConfig(image_shape=(1, 4, 4), latent_shape=(2,), network=MLPConfig(hidden=(8,)), likelihood=fixed)
    likelihood = VAE(config).decode(torch.zeros(5, 2))
    assert isinstance(likelihood, Gaussian)
    one, other = random(5, 1, 4, 4, seed=4), random(5, 1, 4, 4, seed=5)
    errors = [(images - likelihood.location).square().flatten(1).sum(1) for images in (one, other)]

    torch.testing.assert_close(
        likelihood.log_prob(one) - likelihood.log_prob(other), (errors[1] - errors[0]) / (2 * 0.5**2)
    )


@pytest.mark.parametrize("log_scale", [-8.0, -5.5, -3.0, 0.0, 2.0])
@pytest.mark.parametrize("location", [-0.5, 0.0, 0.1234, 0.5, 1.0, 3.0])
def test_discretised_logistic_sums_to_one_over_all_values(location: float, log_scale: float) -> None:
    """The likelihood is a probability of 256 values for every answer of a decoder: narrow, wide, inside, outside.

    The narrowest scale magnifies a pixel's float32 rounding 3000 times: two parts in ten thousand.
    """
    shape = (256, 1, 1, 1)
    likelihood = DiscretisedLogistic(torch.full(shape, location), torch.full(shape, log_scale))

    total = likelihood.log_prob(LEVELS.view(shape)).double().exp().sum()

    assert total.item() == pytest.approx(1, abs=2e-4)


def test_discretised_logistic_is_the_mass_between_two_edges() -> None:
    """The reference is the difference of two sigmoids in float64, where the difference still has digits."""
    location, log_scale = torch.tensor(0.4), torch.tensor(-3.0)
    edges = torch.cat([torch.tensor([-math.inf]), (torch.arange(255) + 0.5) / 255, torch.tensor([math.inf])]).double()
    mass = torch.sigmoid((edges - location) / log_scale.double().exp()).diff()

    found = DiscretisedLogistic(location.expand(256, 1, 1, 1), log_scale.expand(256, 1, 1, 1)).log_prob(
        LEVELS.view(256, 1, 1, 1)
    )

    torch.testing.assert_close(found.double().exp(), mass, rtol=1e-3, atol=1e-9)


def test_discretised_logistic_has_finite_gradients_far_from_the_image() -> None:
    """A difference of sigmoids would round to zero, and its logarithm to −∞."""
    location = torch.full((1, 1, 1, 256), 5.0, requires_grad=True)
    log_scale = torch.full((1, 1, 1, 256), -8.0, requires_grad=True)

    DiscretisedLogistic(location, log_scale).log_prob(LEVELS.view(1, 1, 1, 256)).sum().backward()

    assert location.grad is not None
    assert log_scale.grad is not None
    assert location.grad.isfinite().all()
    assert log_scale.grad.isfinite().all()


def mixture(count: int, channels: int, components: int = 3, seed: int = 0) -> LogisticMixture:
    """A random mixture for images (count, channels, 1, 1), wider than a grey value."""
    pairs = channels * (channels - 1) // 2
    location = 0.5 + 0.3 * random(1, components, channels, 1, 1, seed=seed)
    log_scale = -3 + 0.5 * random(1, components, channels, 1, 1, seed=seed + 1)
    coupling = random(1, components, pairs, 1, 1, seed=seed + 2).tanh()
    log_weight = random(1, components, 1, 1, seed=seed + 3).log_softmax(1)
    parts = (log_weight, location, log_scale, coupling)
    return LogisticMixture(*(part.expand(count, *part.shape[1:]) for part in parts))


def test_mixture_sums_to_one_over_all_values_of_a_pixel() -> None:
    """A grey pixel has 256 values."""
    total = mixture(256, channels=1).log_prob(LEVELS.view(256, 1, 1, 1)).double().exp().sum()

    assert total.item() == pytest.approx(1, abs=1e-5)


def test_mixture_sums_to_one_over_all_colours_of_a_pixel() -> None:
    """The last colour sums to one given the others: so do the others, whose locations do not depend on the last one."""
    red, green = 0.2, 0.7
    colours = torch.stack([torch.full((256,), red), torch.full((256,), green), LEVELS], 1).view(256, 3, 1, 1)
    whole, front = mixture(256, channels=3), mixture(1, channels=3)
    pair = LogisticMixture(
        front.log_weight, front.location[:, :, :2], front.log_scale[:, :, :2], front.coupling[:, :, :1]
    )

    over_blue = whole.log_prob(colours).double().exp().sum()

    expected = pair.log_prob(torch.tensor([red, green]).view(1, 2, 1, 1)).double().exp()
    assert over_blue.item() == pytest.approx(expected.item(), rel=1e-4)


def test_mixture_of_one_component_without_coupling_is_a_discretised_logistic() -> None:
    location, log_scale, images = random(4, 3, 5, 5), random(4, 3, 5, 5, seed=1) - 3, LEVELS[:25].view(1, 1, 5, 5)
    images = images.expand(4, 3, 5, 5)
    one = LogisticMixture(torch.zeros(4, 1, 5, 5), location[:, None], log_scale[:, None], torch.zeros(4, 1, 3, 5, 5))
    plain = DiscretisedLogistic(location, log_scale)

    torch.testing.assert_close(one.log_prob(images), plain.log_prob(images))
    torch.testing.assert_close(one.mean, plain.mean)


def test_mean_of_a_mixture_is_the_mean_of_its_draws() -> None:
    """Against draws: of a component, then of one colour after the other with its location moved by those before."""
    given = mixture(1, channels=3)
    generator = torch.Generator().manual_seed(0)
    weights = given.log_weight.flatten().exp()
    chosen = torch.multinomial(weights, 200_000, replacement=True, generator=generator)
    location, log_scale, coupling = (
        part[0, chosen, :, 0, 0] for part in (given.location, given.log_scale, given.coupling)
    )
    uniform = torch.rand(200_000, 3, generator=generator).clamp(1e-6, 1 - 1e-6)
    noise = uniform.logit() * log_scale.exp()
    red = location[:, 0] + noise[:, 0]
    green = location[:, 1] + coupling[:, 0] * (red - 0.5) + noise[:, 1]
    blue = location[:, 2] + coupling[:, 1] * (red - 0.5) + coupling[:, 2] * (green - 0.5) + noise[:, 2]

    drawn = torch.stack([red, green, blue], 1).mean(0)

    torch.testing.assert_close(given.mean.flatten(), drawn.clamp(0, 1), atol=5e-3, rtol=0)


def test_mixture_that_gives_the_mean_image_is_a_discretised_logistic() -> None:
    """All components are alike then."""
    mean, images = torch.rand(3, 4, 4, dtype=torch.float64), LEVELS[::6][:40].repeat(6)[:240].view(5, 3, 4, 4)

    def nats(kind: DiscretisedLogisticConfig | LogisticMixtureConfig) -> Tensor:
        config = VAEConfig(image_shape=(3, 4, 4), latent_shape=(2,), network=MLPConfig(hidden=(8,)), likelihood=kind)
        numbers = decoder_numbers(config, mean, 0.01, 100).float().expand(5, -1, -1, -1)
        return likelihood_of(config, numbers).log_prob(images)

    torch.testing.assert_close(nats(LogisticMixtureConfig(components=4)), nats(DiscretisedLogisticConfig()))


@pytest.mark.parametrize(
    "likelihood",
    [
        BernoulliConfig(),
        GaussianConfig(),
        GaussianConfig(standard_deviation=0.1),
        DiscretisedLogisticConfig(),
        LogisticMixtureConfig(components=3),
    ],
    ids=repr,
)
def test_log_probability_of_an_image_is_the_sum_over_its_pixels(likelihood: Any) -> None:
    """A pixel's number depends on the colours of that pixel alone."""
    torch.manual_seed(7)
    config = VAEConfig(image_shape=(3, 4, 5), latent_shape=(2,), network=MLPConfig(hidden=(8,)), likelihood=likelihood)
    given = likelihood_of(config, torch.randn(2, config.decoder_channels, 4, 5))
    images = torch.randint(0, 2, (2, 3, 4, 5)).float()
    other = images.clone()
    other[0, :, 1, 2] = 1 - other[0, :, 1, 2]

    pixels, of_other = given.log_prob_of_pixels(images), given.log_prob_of_pixels(other)

    torch.testing.assert_close(pixels.flatten(1).sum(1), given.log_prob(images))
    assert (of_other != pixels).nonzero().tolist() == [[0, 1, 2]]


LIKELIHOODS = [GaussianConfig(), DiscretisedLogisticConfig(), LogisticMixtureConfig(components=3)]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda each: each.kind)
def test_no_latent_can_make_a_likelihood_infinite(
    likelihood: GaussianConfig | DiscretisedLogisticConfig | LogisticMixtureConfig,
) -> None:
    """Scales stay in the range in which the likelihood of every picture is finite."""
    torch.manual_seed(6)
    model = VAE(
        VAEConfig(image_shape=(3, 4, 4), latent_shape=(2,), network=MLPConfig(hidden=(8,)), likelihood=likelihood)
    )

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1000)
    nats = model.decode(random(16, 2)).log_prob(torch.rand(16, 3, 4, 4))

    assert nats.isfinite().all()
    assert model.decode(random(16, 2)).mean.min() >= 0
    assert model.decode(random(16, 2)).mean.max() <= 1


def test_eight_fair_bits_cost_eight_bits() -> None:
    """An image whose values are all equally likely has 8 bits per dimension."""
    nats = torch.full((2,), 3 * 5 * 7 * math.log(1 / 256))

    torch.testing.assert_close(bits_per_dimension(nats, (3, 5, 7)), torch.full((2,), 8.0))
