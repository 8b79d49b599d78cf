"""Scaled latents are finite, or an error says why not."""

import pytest
import torch

from model_store.vae.scaling import Scaling
from service.errors import BadValue
from service.operations.encode import Encoding
from service.operations.scaling import scaled_encoding, unscaled


def encoding(latents: torch.Tensor) -> Encoding:
    """An encoding whose latents are the posterior's mean."""
    return Encoding(latents, latents, torch.zeros_like(latents), None)


def test_statistics_of_each_channel_are_taken_away_and_put_back() -> None:
    scaling = Scaling(factor=2.0, mean=(1.0, -1.0), standard_deviation=(4.0, 0.5))
    latents = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1)

    found = scaled_encoding(encoding(latents), scaling)

    assert found.latents.flatten().tolist() == [2.0, 4.0]
    torch.testing.assert_close(unscaled(found.latents, scaling), latents)
    assert found.log_variance is not None
    torch.testing.assert_close(found.log_variance.exp().sqrt().flatten(), torch.tensor([0.5, 4.0]))


def test_latents_that_overflow_when_they_are_scaled_are_an_error() -> None:
    """They were answered as infinite numbers, and as null in JSON."""
    with pytest.raises(BadValue, match="ask for scaled=false"):
        scaled_encoding(encoding(torch.full((1, 4, 2, 2), 1e36)), Scaling(factor=1e4))
