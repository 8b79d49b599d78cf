"""`python -m benchmarks.pretrained.plain_route NAME SOURCE PORT`: a FastAPI app, as one would write it.

POST /encode takes a PNG and gives latents as npy; POST /decode takes latents as npy and gives uint8 pixels (H, W, 3).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from PIL import Image

from .networks import Functions, load


async def body(request: Request) -> bytes:
    """The bytes of the body."""
    return await request.body()


Body = Annotated[bytes, Depends(body)]


def npy(array: np.ndarray) -> Response:
    """An answer that is an array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return Response(buffer.getvalue(), media_type="application/x-npy")


def make_app(functions: Functions) -> FastAPI:
    """The two routes. FastAPI calls them in threads, so that the event loop goes on."""
    app = FastAPI()

    @app.post("/encode")
    def encode(content: Body) -> Response:
        pixels = np.array(Image.open(io.BytesIO(content), formats=["PNG"]).convert("RGB"))
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return npy(functions.encode(images).numpy())

    @app.post("/decode")
    def decode(content: Body) -> Response:
        with torch.inference_mode():
            images = functions.decode(torch.from_numpy(np.load(io.BytesIO(content))))
            return npy((images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())

    return app


if __name__ == "__main__":
    name, source, port = sys.argv[1:]
    uvicorn.run(make_app(load(name, Path(source))), host="127.0.0.1", port=int(port), log_level="warning")
