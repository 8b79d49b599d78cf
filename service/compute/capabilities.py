"""Which questions a kind of model can answer. A plain autoencoder and a decoder alone lack a part of the VAE each."""

from __future__ import annotations

from typing import Literal

from model_store import ModelVersion, VAEConfig

from ..errors import Meaningless
from .torch_runtime import ForwardPass

_POINT_DRAWS = (
    "is a plain autoencoder, which has no prior to draw from",
    "decode latents, or interpolate between images",
)
_POINT_SCORES = (
    "is a plain autoencoder and gives a point where a score needs a distribution q(z|x)",
    "ask reconstruct for its error, or score with a variational autoencoder",
)
_DECODER_ALONE = ("has no encoder", "sample, decode and traverse work, and interpolate between latents")

Question = ForwardPass | Literal["sample"]

# A kind of posterior, a question, and what is missing for it with what can be done instead.
_LACKING = {
    ("point", "sample"): _POINT_DRAWS,
    ("point", "score"): _POINT_SCORES,
    ("none", "encode"): _DECODER_ALONE,
    ("none", "score"): _DECODER_ALONE,
}


def check(config: VAEConfig, version: ModelVersion, question: Question) -> None:
    """Let pass what a model can answer.

    Raises:
        Meaningless: it cannot; the message says what it lacks.
    """
    if lacking := _LACKING.get((config.posterior, question)):
        raise Meaningless(str(version), *lacking)


def can(config: VAEConfig, question: Question) -> bool:
    """Whether a model of that kind can answer."""
    return (config.posterior, question) not in _LACKING
