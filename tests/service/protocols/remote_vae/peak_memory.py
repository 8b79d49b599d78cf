"""`python -m tests.service.protocols.remote_vae.peak_memory`: the memory that tensors take, beside its bound.

Each case runs in a process of its own, which Linux tells the most memory that it has used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from math import prod
from typing import get_args

import torch
from torch import Tensor

from model_store.taesd import TAESDConfig
from model_store.vae.scaling import Scaling
from service.formats.raw_tensors import write_raw
from service.protocols.remote_vae import decode, encode
from service.protocols.remote_vae.decode import Form
from service.protocols.remote_vae.encode import CONVERTED_BYTES, read_pixels, scaled_latents
from service.protocols.remote_vae.latents import Layout, read_latents
from service.protocols.remote_vae.query import DTYPES, SentTensor

from ..v1.peak_memory import Peak, peak_of

CONFIG = TAESDConfig(image_shape=(3, None, None), latent_shape=(16, None, None), latent_space="any")
SCALING = Scaling(factor=0.5, shift=0.1)
BODY_COPIES = 3  # beside the body itself, as docs/how-to/bound-the-memory.md counts them
LATENT_COPIES = 4  # that decode admits before it reads the latents


def write_images(form: Form, dtype: torch.dtype, images: Tensor) -> bytes:
    """Images as an answer has them."""
    return write_raw(decode.formed(form, images, dtype))


def write_latents(dtype: torch.dtype, latents: Tensor) -> bytes:
    """Latents as an answer has them."""
    return write_raw(scaled_latents(latents, SCALING, dtype))


def written_images() -> Iterator[Peak]:
    """Images as each form of answer has them."""
    for form in set(get_args(Form)) - {"picture"}:
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            for channels in (1, 3):
                images = torch.rand(4, channels, 512, 512)
                images = images.mul(255).to(torch.uint8) if form == "pixels" else images
                taken = peak_of(partial(write_images, form, dtype), images[:1], images)
                reserved = 4 * decode.bytes_to_write(form, "png", (channels, 512, 512), 4)
                yield Peak(f"{form} {dtype} {channels}", taken, reserved)


def written_latents() -> Iterator[Peak]:
    """Latents with another scaling."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        latents = torch.randn(4, 16, 256, 256)
        taken = peak_of(partial(write_latents, dtype), latents[:1], latents)
        yield Peak(f"latents {dtype}", taken, 4 * encode.bytes_to_write(CONFIG, (3, 2048, 2048), 4))


def read_tensors() -> Iterator[Peak]:
    """Bodies of latents, packed and not, and of images."""
    for dtype in DTYPES.values():
        sent, images = SentTensor((4, 16, 256, 256), dtype), SentTensor((4, 3, 512, 512), dtype)
        packed = SentTensor((4, 128 * 128, 64), dtype)
        for each, layout in ((sent, Layout(sent.shape)), (packed, Layout(sent.shape, is_packed=True))):
            body = write_raw(torch.zeros(each.shape, dtype=dtype))
            read = partial(read_latents, sent=each, layout=layout, scaling=SCALING)
            reserved = BODY_COPIES * len(body) + LATENT_COPIES * 4 * prod(each.shape)
            yield Peak(f"read latents {each}", peak_of(read, body, body), reserved)
        body = write_raw(torch.zeros(images.shape, dtype=dtype))
        taken = peak_of(partial(read_pixels, sent=images, shape=(4, 3, 512, 512)), body, body)
        yield Peak(f"read images {dtype}", taken, BODY_COPIES * len(body) + CONVERTED_BYTES * prod(images.shape))


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = (written_images, written_latents, read_tensors)
    print(json.dumps([peak for case in cases for peak in case()]))  # noqa: T201  # a test reads it
