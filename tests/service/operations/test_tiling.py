"""Pictures that do not fit into the memory are computed in tiles."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import prod
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model_store.taesd import TAESD, TAESDConfig
from model_store.tiles import windows
from model_store.vae.family import FamilyConfig, ImageShape
from model_store.vae.pixels import to_images
from model_store.vae.priors import NoPrior
from service.compute.rows import Rows
from service.compute.torch_runtime import ForwardPass, torch_forward_passes
from service.errors import AnswerMemoryFull, BadValue, LargeImagesWait, TooLarge
from service.inference.served_model import Cost, ServedModel
from service.inference.work_queue import Answer
from service.memory import Memory
from service.offload.fair_semaphore import FairSemaphore
from service.operations.encode import encode
from service.operations.limits import Limits
from service.operations.reconstruct import reconstruct
from service.operations.session import Session
from service.operations.tiling import (
    Grid,
    TileWish,
    decode_in_tiles,
    encode_in_tiles,
    grid_of,
    in_tiles,
    smaller_grid,
)
from service.telemetry.timings import Timings

from ...conftest import COLOUR

MiB = 2**20
pytestmark = pytest.mark.anyio


def tiny(*, has_middle_norm: bool = False) -> TAESDConfig:
    """The record of a tiny autoencoder."""
    return TAESDConfig(
        image_shape=(3, None, None),
        latent_shape=(4, None, None),
        latent_space="sd1",
        has_middle_norm=has_middle_norm,
    )


def network(config: TAESDConfig) -> TAESD:
    """A tiny autoencoder with random weights."""
    torch.manual_seed(0)
    model = TAESD(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(2)  # so that far pixels matter: with a halo of 40 instead of 72, latents differ by 0.0003
    return model


def grid_within(config: FamilyConfig, shape: ImageShape, wish: TileWish, most_bytes: int) -> Grid | None:
    """The tiles of an image that may take so much memory, as the family bounds it, and ten seconds."""
    return grid_of(config, shape, wish, lambda shape: Cost(config.activation_bytes_of(shape), 0), limits_of(most_bytes))


def forward_of(model: TAESD) -> Callable[[ForwardPass, Tensor], Awaitable[Rows]]:
    """The forward passes without the flags, as a session calls them."""
    passes = torch_forward_passes(model)

    async def forward(name: ForwardPass, rows: Tensor) -> Rows:
        return passes[name](rows)[:-1]

    return forward


@pytest.mark.parametrize(("length", "side", "halo"), [(100, 32, 8), (64, 64, 8), (70, 16, 24), (8, 16, 8)])
def test_windows_answer_for_each_place_once(length: int, side: int, halo: int) -> None:
    """Each window reads as much as the others, and at least its halo unless the picture ends."""
    found = [*windows(length, side, halo)]

    assert [place for window in found for place in range(length)[window.place]] == [*range(length)]
    assert len({window.read.stop - window.read.start for window in found}) == 1
    for window in found:
        assert range(length)[window.read][window.kept] == range(length)[window.place]
        assert window.read.start <= max(window.place.start - halo, 0)
        assert window.read.stop >= min(window.place.stop + halo, length)


@pytest.mark.parametrize("has_middle_norm", [False, True], ids=["plain", "with normalisation"])
async def test_tiles_with_enough_overlap_are_the_whole(has_middle_norm: bool) -> None:
    """Both ways, and for sides that the tiles do not divide; a normalisation over the whole picture included."""
    model = network(tiny(has_middle_norm=has_middle_norm))
    grid = Grid(64, 64, halo=72, rows=4, columns=5, is_exact=True)
    pixels = torch.randint(0, 256, (2, 3, 200, 296), dtype=torch.uint8)
    latents = model.encode(to_images(pixels)).mean

    (tiled,) = await encode_in_tiles(forward_of(model), model.config, pixels, grid)
    images = await decode_in_tiles(forward_of(model), model.config, latents, grid, is_rendered=False)

    torch.testing.assert_close(tiled, latents, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(images, model.decode(latents).mean, atol=5e-5, rtol=1e-4)


async def test_less_overlap_is_not_exact() -> None:
    """The check of the test above can fail: with a halo of one cell the latents differ."""
    model = network(tiny())
    pixels = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)

    (tiled,) = await encode_in_tiles(forward_of(model), model.config, pixels, Grid(32, 32, 8, 4, 4, is_exact=True))

    assert (tiled - model.encode(to_images(pixels)).mean).abs().max() > 1e-3


async def test_rendered_tiles_are_pixels() -> None:
    """Rounded as the whole image is."""
    model = network(tiny())
    latents = torch.randn(1, 4, 20, 30)

    pixels = await decode_in_tiles(
        forward_of(model), model.config, latents, Grid(64, 64, 72, 3, 4, True), is_rendered=True
    )

    whole = model.decode(latents).mean * 255
    assert pixels.dtype == torch.uint8
    assert (pixels - whole).abs().max() <= 0.5 + 1e-3


async def test_blended_tiles_of_a_smooth_function_have_no_seam() -> None:
    """If each tile adds a constant of its own, blending spreads the step over the overlap."""
    offsets = iter([0.0, 1.0])

    async def compute(tile: Tensor) -> Tensor:
        return torch.full_like(tile, next(offsets))

    blended = await in_tiles(compute, torch.zeros(1, 1, 8, 64), Grid(32, 32, 8, 1, 2, is_exact=False), 1, 1)

    steps = blended[0, 0, 0].diff()
    assert blended.min() == 0
    assert blended.max() == 1
    assert steps.max() < 0.07
    assert steps.min() >= 0


async def test_blending_keeps_what_all_tiles_agree_on() -> None:
    """A function of single places is exact in any tiles."""

    async def compute(tile: Tensor) -> Tensor:
        return F.interpolate(tile.square(), scale_factor=2)

    rows = torch.rand(1, 2, 24, 40)
    blended = await in_tiles(compute, rows, Grid(16, 16, 4, 2, 3, is_exact=False), 2, 1)

    torch.testing.assert_close(blended, F.interpolate(rows.square(), scale_factor=2))


def test_image_that_fits_is_not_tiled() -> None:
    """Neither is an image of a model of one size."""
    assert grid_within(tiny(), (3, 64, 64), TileWish(), 512 * MiB) is None
    assert grid_within(COLOUR, (3, 8, 8), TileWish(), 1) is None


def test_large_image_is_tiled_within_the_memory() -> None:
    """The tile with its overlap takes no more than it may, and the words say how."""
    grid = grid_within(tiny(), (3, 4096, 4096), TileWish(), 512 * MiB)

    assert grid is not None
    assert tiny().activation_bytes_of(grid.read_shape((3, 4096, 4096))) <= 512 * MiB
    assert grid.text == f"{grid.rows}x{grid.columns}; overlap=144; exact=true"
    assert grid.rows * grid.height >= 4096


def test_image_that_nearly_fits_is_cut_once() -> None:
    """Two tiles compute fewer pixels than four, since each has an overlap."""
    grid = grid_within(tiny(), (3, 512, 768), TileWish(), tiny().activation_bytes_of((3, 512, 760)))

    assert grid is not None
    assert (grid.rows, grid.columns) == (1, 2)


def test_wished_side_and_overlap_are_taken() -> None:
    """Less overlap than the network needs is not exact."""
    grid = grid_within(tiny(), (3, 512, 512), TileWish(256, 64), 512 * MiB)

    assert grid == Grid(256, 256, 32, 2, 2, is_exact=False)


def test_a_tile_that_covers_the_image_is_the_image() -> None:
    """The image is computed at once. A thin image may have a tile as thin as itself."""
    assert grid_within(tiny(), (3, 512, 512), TileWish(1024), 512 * MiB) is None
    assert grid_within(tiny(), (3, 8, 48), TileWish(48), 512 * MiB) is None


@pytest.mark.parametrize(
    ("config", "shape", "wish", "most", "error", "words"),
    [
        (tiny(), (3, 4096, 4096), TileWish("never"), 512 * MiB, TooLarge, "leave out tile=never"),
        (tiny(), (3, 4096, 4096), TileWish(), MiB, TooLarge, "raise max_compute_bytes"),
        (tiny(has_middle_norm=True), (3, 16384, 16384), TileWish(), 512 * MiB, TooLarge, "middle stage"),
        (tiny(), (3, 512, 512), TileWish(16), 512 * MiB, BadValue, "ask for 64 or more"),
        (tiny(), (3, 8, 16384), TileWish(8), 512 * MiB, BadValue, "ask for 64 or more"),
        (COLOUR, (3, 8, 8), TileWish(64), 512 * MiB, BadValue, "takes one size only"),
        (COLOUR, (3, 8, 8), TileWish("auto", 16), 512 * MiB, BadValue, "takes one size only"),
    ],
    ids=["never", "no memory", "middle stage", "small tiles", "a thin image", "one size", "an overlap of one size"],
)
def test_impossible_tiles_are_refused(
    config: FamilyConfig, shape: tuple[int, int, int], wish: TileWish, most: int, error: type[Exception], words: str
) -> None:
    """Before anything is computed; the message has the numbers and the remedy."""
    with pytest.raises(error, match=words):
        grid_within(config, shape, wish, most)


def test_tiles_are_halved_until_they_are_too_small() -> None:
    """After memory has run out in spite of the plan."""
    grid, sides = None, []
    while grid := smaller_grid(tiny(), (3, 1024, 512), grid, TileWish()):
        sides.append((grid.height, grid.width))

    assert sides == [(512, 256), (256, 128), (128, 64), (64, 64)]


def limits_of(compute_bytes: int) -> Limits:
    """Limits of computation, and none of the rest."""
    return Limits(2, 2**30, 2**30, 1, 2**30, compute_bytes=compute_bytes, compute_s=10)


def test_tiles_of_the_largest_downscale_end_too() -> None:
    """A tile cannot be smaller than the downscale."""
    coarse = tiny().model_copy(update={"downscale": 128})
    grid = Grid(128, 128, 64, 2, 2, is_exact=False)

    assert smaller_grid(coarse, (3, 256, 256), grid, TileWish()) is None


def test_slow_image_is_tiled() -> None:
    """A computation that takes as long as one that hangs would be ended."""
    shape = (3, 1024, 1024)

    grid = grid_of(tiny(), shape, TileWish(), lambda shape: Cost(1, 15e-6 * shape[1] * shape[2]), limits_of(2**40))

    assert grid is not None
    _, height, width = grid.read_shape(shape)
    assert 15e-6 * height * width <= 10


def test_constant_memory_does_not_make_tiles_small() -> None:
    """The network of a library takes some memory for the smallest image too."""

    def cost_of(shape: ImageShape) -> Cost:
        return Cost(36 * MiB + 1000 * shape[1] * shape[2], 0)

    grid = grid_of(tiny(), (3, 1024, 1024), TileWish(), cost_of, limits_of(512 * MiB))

    assert grid is not None
    assert grid.rows * grid.columns <= 4


@pytest.mark.parametrize("work", [encode, reconstruct])
async def test_images_that_are_tiled_are_computed_one_after_the_other(work: Callable[..., Awaitable[object]]) -> None:
    """The oldest first: images that took turns tile by tile would all be ready late, or too late."""
    passes, order = torch_forward_passes(network(tiny())), []

    class Model:
        card = SimpleNamespace(model=tiny(), is_inverted=False)
        prior = NoPrior()

        async def forward(
            self, name: ForwardPass, rows: Sequence[Tensor], *, client: str, is_begun: bool
        ) -> Answer[Rows]:
            order.append(client)
            await asyncio.sleep(0)
            return Answer([passes[name](*rows)[:-1]], queue_s=0, compute_s=0)

        def cost_of(self, shape: ImageShape) -> Cost:
            return Cost(100 * prod(shape), 0)

    tiled, memory = FairSemaphore(1, 2), Memory(2**30, 2**30, AnswerMemoryFull)
    model, limits = cast(ServedModel, Model()), limits_of(100 * 3 * 300 * 300)

    async def work_for(client: str) -> None:
        session = Session(model, limits, Timings(), memory.reserve(client), tiled=tiled)
        await work(session, torch.zeros(1, 3, 320, 320, dtype=torch.uint8))

    *answers, refused = await asyncio.gather(*map(work_for, "abcd"), return_exceptions=True)

    assert answers == [None] * 3
    assert order == sorted(order)
    assert order.count("a") > 2
    assert isinstance(refused, LargeImagesWait)
