"""The conversions between pictures and the tensors of networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model_store.vae.noise import MAX_SEED, derived_seed, standard_normal, uniform
from model_store.vae.pixels import binarise, to_images, to_pixels


def test_every_pixel_value_survives_the_way_to_images_and_back() -> None:
    """The way from uint8 to [0, 1] and back loses nothing."""
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)

    assert torch.equal(to_pixels(to_images(pixels)), pixels)


def test_values_outside_the_range_are_clipped() -> None:
    """A network may give values outside the range; a picture cannot have them."""
    assert to_pixels(torch.tensor([-0.5, 1.5])).tolist() == [0, 255]


def test_binary_pixels_stay_as_they_are() -> None:
    """Black is never on and white always is."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(500).view(1, 1, 10, 100)

    images = binarise(pixels, uniform(0, 1, pixels.shape[1:]))

    assert torch.equal(images, to_images(pixels))


def test_grey_pixels_are_on_as_often_as_they_are_bright() -> None:
    """A share of 64/255 of 100 000 pixels is on, within 6 standard errors: a false alarm once in 5e8 runs."""
    pixels = torch.full((1, 1, 100, 1000), 64, dtype=torch.uint8)
    share = 64 / 255

    images = binarise(pixels, uniform(0, 1, pixels.shape[1:]))

    assert abs(images.mean().item() - share) < 6 * (share * (1 - share) / 100_000) ** 0.5


@pytest.mark.parametrize("noise", [standard_normal, uniform])
@pytest.mark.parametrize("shape", [(1,), (4, 5), (32,), (4, 64, 64)], ids=str)
def test_noise_of_an_image_does_not_depend_on_how_many_are_asked_for(
    noise: Callable[[int, int, tuple[int, ...]], Tensor], shape: tuple[int, ...]
) -> None:
    """The third of three rows is the third of a hundred."""
    assert torch.equal(noise(7, 3, shape), noise(7, 100, shape)[:3])


def test_noise_is_standard_normal_in_every_place() -> None:
    """Each mean and variance of 50 000 rows lies within 6 standard errors: a false alarm once in 1e7 runs."""
    rows = standard_normal(11, 50_000, (20,))

    assert (rows.mean(0).abs() < 6 / 50_000**0.5).all()
    assert ((rows.var(0) - 1).abs() < 6 * (2 / 50_000) ** 0.5).all()


def test_seeds_for_several_things_differ_and_are_seeds() -> None:
    """Noise for pixels and for draws is unrelated, and neighbouring seeds do not share any."""
    seeds = {derived_seed(seed, f"draw {number}") for seed in range(50) for number in range(50)}

    assert len(seeds) == 2500
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_noise_differs_between_seeds() -> None:
    """Another seed gives another draw."""
    assert not torch.equal(standard_normal(7, 1, (32,)), standard_normal(8, 1, (32,)))


def test_largest_seed_works() -> None:
    """Seeds go up to 2⁶³ − 1."""
    assert standard_normal(2**63 - 1, 1, (2,)).isfinite().all()
