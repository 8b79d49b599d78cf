"""A configuration checks itself: what does not fit is refused with both values."""

import pytest
from pydantic import ValidationError

from model_store.vae import ConvConfig, MLPConfig, VAEConfig

CONV = ConvConfig(widths=(8, 16), hidden=16)
GRID = ConvConfig(widths=(8, 16))


@pytest.mark.parametrize(
    ("image_shape", "latent_shape", "network", "message"),
    [
        pytest.param((1, 30, 28), (8,), CONV, "30×28 images cannot be divided by 4", id="side-not-divisible"),
        pytest.param((1, 28, 28), (8, 7, 7), CONV, r"with network.hidden it is a vector", id="grid-with-hidden"),
        pytest.param((1, 28, 28), (8,), GRID, r"without it a grid \(C, 7, 7\)", id="vector-without-hidden"),
        pytest.param((1, 28, 28), (8, 14, 14), GRID, r"a grid \(C, 7, 7\)", id="grid-of-wrong-size"),
        pytest.param((2, 28, 28), (8,), CONV, "Input should be 1 or 3", id="two-channels"),
        pytest.param((1, 0, 28), (8,), CONV, "greater than or equal to 1", id="no-height"),
        pytest.param((1, 4097, 28), (8,), CONV, "less than or equal to 4096", id="too-high"),
        pytest.param((1, 28, 28), (8192, 8192), MLPConfig(hidden=(8,)), "more than", id="latents-too-many"),
        pytest.param((1, 28, 28), (), CONV, "at least 1 item", id="no-latents"),
    ],
)
def test_what_does_not_fit_is_refused(image_shape: object, latent_shape: object, network: object, message: str) -> None:
    """The message names what was found and what would fit."""
    with pytest.raises(ValidationError, match=message):
        VAEConfig.model_validate({"image_shape": image_shape, "latent_shape": latent_shape, "network": network})


def test_unknown_key_is_refused() -> None:
    """A misspelt key is an error and not a default."""
    with pytest.raises(ValidationError, match="activaton"):
        MLPConfig.model_validate_json('{"hidden": [8], "activaton": "relu"}')


def test_config_survives_the_way_through_json() -> None:
    """A configuration survives the way to JSON and back."""
    config = VAEConfig(image_shape=(3, 28, 28), latent_shape=(4, 7, 7), network=GRID)

    assert VAEConfig.model_validate_json(config.model_dump_json()) == config


def test_config_is_frozen() -> None:
    """The description of a network cannot change after the network was built."""
    config = MLPConfig(hidden=(8,))

    with pytest.raises(ValidationError, match="frozen"):
        config.hidden = (16,)  # type: ignore[misc]  # mypy refuses it too
