"""A session asks for room in the queue once: its first forward pass may be refused, later ones are always admitted."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from model_store.taesd import TAESDConfig
from service.errors import AnswerMemoryFull, NotSupportedByModel, QueueFull
from service.inference.served_model import ServedModel
from service.inference.work_queue import Answer
from service.memory import Memory
from service.operations.limits import Limits
from service.operations.session import Session
from service.telemetry.timings import Timings

from ...conftest import GREY

pytestmark = pytest.mark.anyio

LIMITS = Limits(images=1, pixels=1, picture_pixels=1, draws=1, compute_bytes=2**30, compute_s=10, answer_bytes=1)
MEMORY = Memory(1, 1, AnswerMemoryFull).reserve("any client")
ROWS = (torch.zeros(2, 3),)


class FullModel:
    """A model whose queue is full for requests that have not begun."""

    def __init__(self) -> None:
        self.card = SimpleNamespace(model=GREY, is_inverted=False)
        self.is_full = False

    async def forward(self, _: str, rows: Any, *, client: str, is_begun: bool) -> Answer[Any]:
        """Give the rows back after 1 s in the queue and 2 s of computing."""
        if self.is_full and not is_begun:
            raise QueueFull(images=2, own=1, free=0, limit=1, retry_after_s=1)
        return Answer([rows], queue_s=1, compute_s=2)


async def test_session_that_has_begun_is_admitted_to_a_full_queue() -> None:
    """The results of its first forward pass would be lost."""
    model = FullModel()
    session = Session(cast(ServedModel, model), LIMITS, Timings(), MEMORY)
    await session.forward("encode", *ROWS)
    model.is_full = True

    assert await session.forward("decode", *ROWS) == ROWS


async def test_session_that_was_refused_has_not_begun() -> None:
    """Another try may be refused too, even if time was spent in the queue before."""
    model, timings = FullModel(), Timings()
    model.is_full = True
    timings.add("queue", 1)
    session = Session(cast(ServedModel, model), LIMITS, timings, MEMORY)

    for _ in range(2):
        with pytest.raises(QueueFull):
            await session.forward("encode", *ROWS)


def any_size(channels: int) -> TAESDConfig:
    """The record of a model of any size; all of them claim the same latent space."""
    return TAESDConfig(image_shape=(3, None, None), latent_shape=(channels, None, None), latent_space="shared")


def previewing(small: Any) -> Session:
    """A session with a model whose card names another one for previews."""
    large = SimpleNamespace(
        name="large", space="shared", card=SimpleNamespace(model=any_size(4), preview="small"), prior=None
    )
    other = SimpleNamespace(
        name="small", space="shared", version=SimpleNamespace(name="small"), card=SimpleNamespace(model=small)
    )
    served = [cast(ServedModel, other)]
    return Session(cast(ServedModel, large), LIMITS, Timings(), MEMORY, lambda: served)


def test_preview_of_the_same_space_is_taken() -> None:
    assert previewing(any_size(4)).preview().model.name == "small"


@pytest.mark.parametrize("other", [any_size(16), GREY], ids=["other channels", "one size"])
def test_preview_of_other_shapes_is_refused(other: Any) -> None:
    """A name of a space is only a claim: a model of another downscale gave pictures of another size."""
    with pytest.raises(NotSupportedByModel, match="no served model of that name has its latent space and its shapes"):
        previewing(other).preview()


async def test_timings_add_up_over_forward_passes() -> None:
    """A request waits and computes once for each forward pass."""
    timings = Timings()
    session = Session(cast(ServedModel, FullModel()), LIMITS, timings, MEMORY)
    await session.forward("encode", *ROWS)
    await session.forward("decode", *ROWS)

    assert timings.seconds == {"queue": 2, "compute": 4}
