"""The forward passes of a float32 model, computed by ONNX Runtime on a CPU.

ONNX Runtime is faster than torch, most of all for few images, where torch takes longer to find its kernels than they
take to run. An image's answer has had the same bits in every batch size that was tried.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from model_store.families import Network
from model_store.vae import VAE
from model_store.vae.config import BernoulliConfig, DiscretisedLogisticConfig, GaussianConfig, VAEConfig
from model_store.vae.likelihoods import likelihood
from model_store.vae.model import LOG_VARIANCE_RANGE
from model_store.vae.pixels import to_images, to_pixels

from .onnx_graph import Graph, Untranslatable
from .rows import Rows
from .torch_runtime import ForwardPasses, with_finite_flags

# Since 1.32 ONNX Runtime sends usage data to its makers, unless this variable is set before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as reasons

_ERRORS = 3  # the log level at which warnings are dropped
# If one image needs more bytes, a session returns its memory after each batch. With an arena, which keeps the memory, a
# session had twice the size (one image of 1024×1024, 2026-11-26); for small images, an arena is quicker.
_ARENA_BYTES = 64 * 2**20


def onnx_forward_passes(model: Network) -> ForwardPasses:
    """The forward passes that the model has, by name, computed with as many threads as torch has now.

    Raises:
        Untranslatable: ONNX Runtime cannot compute one of its networks.
    """
    # No function below refers to the model, so its weights are freed: the sessions have copies.
    if not isinstance(model, VAE):
        raise Untranslatable(f"the family {model.config.family} has no translation into ONNX")
    config, encoder = model.config, model.encoder
    has_arena = config.activation_bytes <= _ARENA_BYTES
    decoded = compile_graph(decode_graph(model.decoder, config), has_arena=has_arena)

    def decode(latents: Tensor) -> Rows:
        numbers, *images = decoded(latents)
        return with_finite_flags(images[0] if images else likelihood(config, numbers).mean)

    def render(latents: Tensor) -> Rows:
        images, finite = decode(latents)
        return to_pixels(images), finite

    def score(pixels: Tensor, latents: Tensor) -> Rows:
        numbers, *_ = decoded(latents)
        return with_finite_flags(likelihood(config, numbers).log_prob(to_images(pixels)))

    def error_map(pixels: Tensor, latents: Tensor) -> Rows:
        numbers, *_ = decoded(latents)
        return with_finite_flags(likelihood(config, numbers).log_prob_of_pixels(to_images(pixels)))

    passes: ForwardPasses = {"decode": decode, "render": render, "score": score, "error_map": error_map}
    if encoder is None:
        return passes
    encoded = compile_graph(encode_graph(encoder, config), has_arena=has_arena)
    return {"encode": lambda pixels: with_finite_flags(*encoded(pixels)), **passes}


def encode_graph(encoder: nn.Module, config: VAEConfig) -> bytes:
    """uint8 pixels (B, C, H, W) → mean and log-variance of the posterior, (B, *latent_shape).

    A plain autoencoder has no log-variance.
    """
    graph = Graph()
    grey_values = graph.node("Cast", "pixels", to=TensorProto.FLOAT)
    numbers = graph.layer(encoder, graph.node("Div", grey_values, graph.constant(np.float32(255))))
    inputs = {"pixels": (TensorProto.UINT8, config.image_shape)}
    if config.numbers_per_latent == 1:
        return graph.model(inputs, {"mean": numbers})
    mean, log_variance = graph.nodes("Split", 2, numbers, axis=1, num_outputs=2)
    return graph.model(inputs, {"mean": mean, "log_variance": graph.clip(log_variance, *LOG_VARIANCE_RANGE)})


def decode_graph(decoder: nn.Module, config: VAEConfig) -> bytes:
    """Latents (B, *latent_shape) → the numbers that the likelihood interprets, and images (B, C, H, W) in [0, 1].

    The mean of a mixture takes several steps: torch computes it, and the graph gives no images.
    """
    graph = Graph()
    numbers = graph.layer(decoder, "latents")
    outputs = {"numbers": numbers}
    # The images are the mean as the likelihoods define it: the probability of a Bernoulli, or a location in [0, 1].
    match config.likelihood:
        case BernoulliConfig():
            outputs["images"] = graph.node("Sigmoid", numbers)
        case GaussianConfig(standard_deviation=float()):
            outputs["images"] = graph.clip(numbers, 0, 1)
        case GaussianConfig() | DiscretisedLogisticConfig():
            location, _ = graph.nodes("Split", 2, numbers, axis=1, num_outputs=2)
            outputs["images"] = graph.clip(location, 0, 1)
    return graph.model({"latents": (TensorProto.FLOAT, config.latent_shape)}, outputs)


def compile_graph(content: bytes, *, has_arena: bool = True) -> Callable[[Tensor], Rows]:
    """A function that computes an ONNX model with one input, and keeps the memory of a batch if it `has_arena`.

    Raises:
        Untranslatable: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    options.log_severity_level = _ERRORS
    options.enable_cpu_mem_arena = options.enable_mem_pattern = has_arena
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (reasons.InvalidGraph, reasons.InvalidArgument, reasons.NotImplemented) as error:
        raise Untranslatable(f"ONNX Runtime refuses the network: {error}") from error
    (taken,), given = session.get_inputs(), [output.name for output in session.get_outputs()]

    def compute(rows: Tensor) -> Rows:
        return tuple(map(torch.from_numpy, session.run(given, {taken.name: rows.contiguous().numpy()})))

    return compute
