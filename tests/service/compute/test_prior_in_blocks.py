"""A learned prior is computed in blocks of rows, so that a row never depends on the number of the others."""

from __future__ import annotations

import pytest
import torch

from model_store.vae import Flow, FlowConfig, Mixture, MixtureConfig, Uniform
from service.compute.prior_in_blocks import BLOCK, in_blocks


def distribution(kind: str) -> Flow | Mixture:
    """A distribution of eight values with random weights."""
    torch.manual_seed(0)
    found = Flow(FlowConfig(couplings=4, width=32), (8,)) if kind == "flow" else Mixture(MixtureConfig(), (8,))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return found


@pytest.mark.parametrize("name", ["from_normal", "to_normal", "log_prob"])
@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_row_has_the_same_bytes_among_any_number_of_rows(kind: str, name: str) -> None:
    """The first rows of many are the rows of few, and nearly the rows that the distribution itself gives."""
    own = distribution(kind)
    compute = getattr(in_blocks(own), name)
    rows = torch.randn(2 * BLOCK + 5, 8, generator=torch.Generator().manual_seed(1))
    many = compute(rows)

    assert all(torch.equal(compute(rows[:count]), many[:count]) for count in (1, 2, BLOCK, BLOCK + 1))
    torch.testing.assert_close(many, getattr(own, name)(rows).detach(), atol=1e-4, rtol=1e-4)


def test_weights_are_copies_in_float32() -> None:
    """The network's own may be moved to a GPU, or have half the precision."""
    own = distribution("flow").bfloat16()
    served = in_blocks(own)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.zero_()

    assert served.from_normal(torch.ones(1, 8)).dtype == torch.float32
    assert (served.from_normal(torch.ones(1, 8)) != 1).any()


def test_prior_without_weights_is_served_as_it_is() -> None:
    """Its maps work on single values."""
    prior = Uniform()

    assert in_blocks(prior) is prior
