"""Encoders and decoders: shapes, precision, and answers that do not depend on the rest of the batch."""

import pytest
import torch

from model_store.vae import VAE, ConvConfig, MLPConfig, ShortcutConvConfig, VAEConfig
from model_store.vae.networks.conv import ResidualBlock

CONFIGS = {
    "mlp": VAEConfig(image_shape=(1, 12, 8), latent_shape=(5,), network=MLPConfig(hidden=(16, 8), activation="relu")),
    "mlp-grid": VAEConfig(image_shape=(3, 8, 8), latent_shape=(2, 4, 4), network=MLPConfig(hidden=(16,))),
    "conv": VAEConfig(
        image_shape=(1, 12, 8), latent_shape=(5,), network=ConvConfig(widths=(8, 16), blocks=1, hidden=16)
    ),
    "conv-grid": VAEConfig(
        image_shape=(3, 16, 8), latent_shape=(2, 4, 2), network=ConvConfig(widths=(8, 16), blocks=2)
    ),
    "shortcut-conv": VAEConfig(
        image_shape=(1, 12, 8), latent_shape=(5,), network=ShortcutConvConfig(widths=(8, 16), blocks=1, hidden=16)
    ),
    "shortcut-conv-grid": VAEConfig(
        image_shape=(3, 16, 8), latent_shape=(2, 4, 2), network=ShortcutConvConfig(widths=(8, 8), blocks=2)
    ),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> VAE:
    """One model of each kind, with random weights."""
    torch.manual_seed(8)
    return VAE(CONFIGS[request.param]).eval()


def test_encode_gives_a_posterior_of_the_latent_shape(model: VAE) -> None:
    """Mean and log-variance are (B, *latent_shape)."""
    posterior = model.posterior(torch.rand(3, *model.config.image_shape))

    assert posterior.mean.shape == posterior.log_variance.shape == (3, *model.config.latent_shape)


def test_decode_gives_probabilities_of_the_image_shape(model: VAE) -> None:
    """The likelihood's mean is (B, C, H, W), and within [0, 1]."""
    images = model.decode(torch.randn(3, *model.config.latent_shape)).mean

    assert images.shape == (3, *model.config.image_shape)
    assert ((images >= 0) & (images <= 1)).all()


def test_an_image_is_encoded_alike_alone_and_in_company(model: VAE) -> None:
    """No network has batch statistics: alone and among others the latents agree to float32's rounding."""
    images = torch.rand(7, *model.config.image_shape)

    torch.testing.assert_close(model.encode(images[3:4]).mean, model.encode(images).mean[3:4])


def test_networks_of_half_precision_answer_in_float32(model: VAE) -> None:
    """Networks of any precision take and give float32."""
    images = torch.rand(2, *model.config.image_shape)
    full = model.encode(images).mean

    half = model.bfloat16().encode(images).mean

    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.05, rtol=0.05)


def test_no_image_can_make_a_variance_infinite() -> None:
    """The log-variance stays in the range in which its exponential is a finite float32 above zero."""
    model = VAE(CONFIGS["mlp"])
    torch.nn.init.constant_(model.get_parameter("encoder.output.bias"), 1e30)

    variance = model.posterior(torch.rand(1, 1, 12, 8)).log_variance.exp()

    assert variance.isfinite().all()


def test_residual_block_begins_as_the_identity() -> None:
    """A deep network can then train from its first step."""
    features = torch.randn(2, 8, 4, 4)

    assert torch.equal(ResidualBlock(8)(features), features)
