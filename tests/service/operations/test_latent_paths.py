"""Paths through the latents, straight and on a sphere."""

import pytest
import torch

from service.operations import latent_paths


def test_spherical_path_keeps_the_length_of_equally_long_latents() -> None:
    """The straight path is shorter in the middle."""
    start, end = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    round_about, straight = (latent_paths.between(start, end, 5, path) for path in ("spherical", "linear"))

    torch.testing.assert_close(round_about.norm(dim=1), torch.full((5,), 2.0))
    torch.testing.assert_close(straight.norm(dim=1).min(), torch.tensor(2.0).sqrt())


@pytest.mark.parametrize("end", [[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_spherical_path_is_finite_where_there_is_no_angle(end: list[float]) -> None:
    """For latents of the same direction, of opposite directions, or zero, the path is the straight one."""
    latents = latent_paths.between(torch.tensor([1.0, 0.0]), torch.tensor(end), 4, "spherical")

    torch.testing.assert_close(latents, latent_paths.between(torch.tensor([1.0, 0.0]), torch.tensor(end), 4, "linear"))
