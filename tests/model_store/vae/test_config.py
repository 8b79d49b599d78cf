"""A configuration checks itself: what does not fit is refused with both values."""

from typing import Literal

import pytest
from pydantic import ValidationError

from model_store.vae import ConvConfig, MLPConfig, ShortcutConvConfig, VAEConfig
from model_store.vae.config import BernoulliConfig, GaussianConfig, LogisticMixtureConfig

CONV = ConvConfig(widths=(8, 16), hidden=16)
SHORTCUT = ShortcutConvConfig(widths=(8, 16), hidden=16)
GRID = ConvConfig(widths=(8, 16))


@pytest.mark.parametrize(
    ("image_shape", "latent_shape", "network", "message"),
    [
        pytest.param((1, 30, 28), (8,), CONV, "30×28 images cannot be divided by 4", id="side-not-divisible"),
        pytest.param((1, 28, 28), (8, 7, 7), CONV, r"with network.hidden it is a vector", id="grid-with-hidden"),
        pytest.param((1, 28, 28), (8,), GRID, r"without it a grid \(C, 7, 7\)", id="vector-without-hidden"),
        pytest.param((1, 28, 28), (8, 14, 14), GRID, r"a grid \(C, 7, 7\)", id="grid-of-wrong-size"),
        pytest.param((1, 28, 28), (8, 7, 7), SHORTCUT, "with network.hidden it is a vector", id="shortcut-with-hidden"),
        pytest.param(
            (1, 4, 28), (8,), SHORTCUT, r"is 1×7, but it must be at least 2×2; use fewer", id="map-of-one-row"
        ),
        pytest.param((2, 28, 28), (8,), CONV, "Input should be 1 or 3", id="two-channels"),
        pytest.param((1, 0, 28), (8,), CONV, "greater than or equal to 1", id="no-height"),
        pytest.param((1, 4097, 28), (8,), CONV, "less than or equal to 4096", id="too-high"),
        pytest.param((1, 28, 28), (8192, 8192), MLPConfig(hidden=(8,)), "more than", id="latents-too-many"),
        pytest.param((1, 28, 28), (), CONV, "at least 1 item", id="no-latents"),
        pytest.param(
            (3, 4096, 4096), (2,), MLPConfig(hidden=(8,)), r"need 2,013,265,920 bytes .* smaller", id="pixels"
        ),
        pytest.param((1, 1024, 1024), (1, 512, 512), ConvConfig(widths=(256,)), "smaller widths", id="feature-maps"),
    ],
)
def test_what_does_not_fit_is_refused(image_shape: object, latent_shape: object, network: object, message: str) -> None:
    """The message names what was found and what would fit."""
    with pytest.raises(ValidationError, match=message):
        VAEConfig.model_validate({"image_shape": image_shape, "latent_shape": latent_shape, "network": network})


def test_memory_of_one_image_is_ten_tensors_of_the_largest_size() -> None:
    """The largest tensor is an image, a pair of numbers for each pixel, a feature map, a layer or a latent."""
    image_shape: tuple[Literal[3], int, int] = (3, 64, 64)
    grid, vector = ConvConfig(widths=(1, 96)), MLPConfig(hidden=(8192, 4))
    learned = GaussianConfig()

    assert [
        VAEConfig(
            image_shape=image_shape, latent_shape=latents, network=network, likelihood=likelihood
        ).activation_bytes
        for latents, network, likelihood in (
            ((2,), MLPConfig(hidden=(4,)), BernoulliConfig()),
            ((2,), MLPConfig(hidden=(4,)), learned),
            ((1, 16, 16), grid, BernoulliConfig()),
            ((2,), vector.model_copy(update={"hidden": (8192 * 2, 4)}), BernoulliConfig()),
            ((8192,), vector, BernoulliConfig()),
            ((2,), MLPConfig(hidden=(4,)), LogisticMixtureConfig(components=7)),
        )
    ] == [
        40 * values
        for values in (
            3 * 64 * 64,
            2 * 3 * 64 * 64,
            96 * 16 * 16,
            16384,
            16384,
            7 * (1 + 3 + 3 + 3) * 64 * 64,
        )
    ]


@pytest.mark.parametrize(
    ("widths", "wrong"), [((8, 4), "4 after 8"), ((8, 8, 24), "24 after 8"), ((1, 8), "8 after 1")]
)
def test_widths_that_shortcuts_cannot_join_are_refused(widths: tuple[int, ...], wrong: str) -> None:
    """Groups of channels are averaged, so that one width divides the other."""
    with pytest.raises(ValidationError, match=f"widths has {wrong}, but a width must be 1, 2 or 4 times"):
        ShortcutConvConfig(widths=widths)


def test_maps_of_shortcuts_have_a_ring_and_means_beside_them() -> None:
    """The largest map is the one before the last doubling, or before the pixels."""
    assert ShortcutConvConfig(widths=(8, 32)).largest_map(64, 64) == (32 + 8) * 18 * 18
    assert ShortcutConvConfig(widths=(8, 8)).largest_map(64, 64) == 8 * 34 * 34


@pytest.mark.parametrize("deviation", [0.0, 1e-30, 0.00099, -1.0, float("nan"), float("inf")])
def test_gaussian_is_no_narrower_than_the_grain_of_pixels(deviation: float) -> None:
    """The likelihood of such a model would be infinite, or noise of float32."""
    with pytest.raises(ValidationError, match="standard_deviation"):
        GaussianConfig(standard_deviation=deviation)


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
