"""The benchmark of unusual images: its arithmetic, and the images that it makes."""

import numpy as np
import pytest
import torch

from benchmarks.anomalies.__main__ import auroc
from benchmarks.anomalies.images import DEFECT, changed, with_defect


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    """Three of four pairs are in the right order, and one is equal: (3 + ½) / 4."""
    assert auroc(np.array([50.0, 90.0]), np.array([10.0, 50.0])) == pytest.approx(3.5 / 4)
    assert auroc(np.array([50.0, 90.0]), np.array([1.0, 2.0])) == 1
    assert auroc(np.array([1.0, 2.0]), np.array([50.0, 90.0])) == 0
    assert auroc(np.full(3, 7.0), np.full(5, 7.0)) == 0.5


def test_defect_is_one_rectangle_of_one_colour() -> None:
    """All other pixels are as they were, and the normal images are not changed."""
    normal = torch.randint(0, 256, (20, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    before = normal.clone()

    is_changed = (with_defect(normal, seed=0) != normal).any(1)

    assert torch.equal(normal, before)
    for image in is_changed:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        sides = len(rows), len(columns)
        assert sides in (DEFECT, DEFECT[::-1])
        assert (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1) == sides


def test_changed_images_keep_the_shape_of_the_normal_ones() -> None:
    """Black and white are one image each, since all of them would be alike."""
    normal = torch.randint(0, 256, (5, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)

    found = changed(normal, torch.Generator().manual_seed(0))

    assert {rows.shape[1:] for rows in found.values()} == {normal.shape[1:]}
    assert [len(found[name]) for name in ("black", "white", "noise", "inverted")] == [1, 1, 5, 5]
    assert not found["right half cut"][..., 14:].any()
