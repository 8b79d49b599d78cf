"""FastAPI and uvicorn as a user would write it first: each request computes alone, in its handler.

Setting: uvicorn with several workers, uvloop and httptools, one thread of torch a worker.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from torch import Tensor

from ...place import here
from .. import network, pictures

PNG, NPY = "image/png", "application/x-npy"


class Latents(BaseModel):
    """The answer of encode: a list of numbers for each image."""

    latents: list[list[float]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Each worker loads the network once."""
    app.state.network = network.load()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/encode")
async def encode(request: Request) -> Latents:
    """PNG → JSON."""
    pixels = pictures.read(await request.body()).unsqueeze(0)
    return Latents(latents=loaded().encode(pixels).tolist())


@app.get("/sample")
async def sample() -> Response:
    """→ PNG."""
    return Response(pictures.write(loaded().sample(1)[0]), media_type=PNG)


@app.post("/batch-encode")
async def batch_encode(request: Request) -> Response:
    """Pixels uint8 (B, H, W, C) → latents float32 (B, D), both npy."""
    return array(loaded().encode(first_channels(read_array(await request.body()))))


@app.post("/batch-decode")
async def batch_decode(request: Request) -> Response:
    """Latents float32 (B, D) → pixels uint8 (B, H, W, C), both npy."""
    return array(last_channels(loaded().decode(read_array(await request.body()))))


@app.post("/batch-reconstruct")
async def batch_reconstruct(request: Request) -> Response:
    """Pixels uint8 (B, H, W, C) → the same, both npy."""
    latents = loaded().encode(first_channels(read_array(await request.body())))
    return array(last_channels(loaded().decode(latents)))


def loaded() -> network.Network:
    """The network of this worker."""
    return cast(network.Network, app.state.network)


def read_array(content: bytes) -> Tensor:
    """The tensor of an npy file."""
    return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))


def array(values: Tensor) -> Response:
    """A tensor as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values.numpy(), allow_pickle=False)
    return Response(buffer.getvalue(), media_type=NPY)


def first_channels(pixels: Tensor) -> Tensor:
    """(B, H, W, C) → (B, C, H, W)."""
    return pixels.permute(0, 3, 1, 2)


def last_channels(pixels: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H, W, C)."""
    return pixels.permute(0, 2, 3, 1).contiguous()


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving.peers.naive.serve:app",
        port=here().port,
        workers=here().workers,
        log_level="warning",
        access_log=False,
    )
