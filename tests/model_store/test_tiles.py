"""Tiles are put together again to the tensor that they were cut from."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from model_store.tiles import Mosaic, blended_halo, windows


@pytest.mark.parametrize("halo", [0, 1, 4, 100])
@pytest.mark.parametrize("is_blended", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_tiles_of_a_tensor_give_the_tensor(halo: int, is_blended: bool, kind: torch.dtype) -> None:
    """Blended tiles that agree have the same mean, and each place is covered."""
    torch.manual_seed(0)
    tensor = (255 * torch.rand(1, 3, 13, 29)).to(kind)
    mosaic = Mosaic(13, 29, 2 * halo if is_blended else None)

    for row, column in product(windows(13, 5, halo), windows(29, 8, halo)):
        mosaic.lay(tensor[:, :, row.read, column.read], row, column)

    torch.testing.assert_close(mosaic.whole(), tensor)


def test_blended_tiles_change_little_by_little() -> None:
    """Both tiles read 24 places; between a black and a white one, no step is larger than a share of the overlap."""
    mosaic = Mosaic(1, 32, overlap=8)
    (row,) = windows(1, 1, 0)
    for grey, column in enumerate(windows(32, 16, 4)):
        mosaic.lay(torch.full((1, 1, 1, column.read.stop - column.read.start), float(grey)), row, column)

    line = mosaic.whole().flatten()

    assert line[:8].eq(0).all()
    assert line[24:].eq(1).all()
    assert line.diff().min() >= 0
    assert line.diff().max() <= 1 / 8


@pytest.mark.parametrize(("multiple", "halo"), [(1, 64), (8, 64), (32, 64), (48, 48), (128, 128)])
def test_halo_is_a_multiple_of_the_reduction(multiple: int, halo: int) -> None:
    """About half of the overlap of 128 pixels, and at least one."""
    assert blended_halo(multiple) == halo
