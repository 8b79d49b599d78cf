"""LitServe: FastAPI in front, Python workers behind, a queue in between.

Setting: its defaults, which do not batch, but with two workers, and one thread of torch each. Pictures come as base64
in JSON, as its documentation shows; an empty JSON object asks for a sample.
"""

from __future__ import annotations

import base64
from typing import Any

import litserve
from fastapi import Response
from torch import Tensor

from ...place import here
from .. import network, pictures


class VAE(litserve.LitAPI):
    """Encodes a picture or draws a sample."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (the network is on the CPU)
        """Load the network, once a worker."""
        self.network = network.load()

    def decode_request(self, request: dict[str, str]) -> Tensor | None:
        """Pixels (1, C, H, W) of a picture; None for a sample."""
        return pictures.read(base64.b64decode(request["image"])).unsqueeze(0) if "image" in request else None

    def predict(self, pixels: Tensor | None) -> Tensor:
        """Latents (1, D) of pixels, or pixels (1, C, H, W) of a sample."""
        return self.network.sample(1) if pixels is None else self.network.encode(pixels)

    def encode_response(self, output: Tensor) -> Any:
        """JSON of latents, a PNG of pixels."""
        if output.dim() == 4:
            return Response(pictures.write(output[0]), media_type="image/png")
        return {"latents": output.tolist()}


if __name__ == "__main__":
    place = here()
    server = litserve.LitServer(VAE(), accelerator="cpu", workers_per_device=place.workers, timeout=30)
    server.run(host="127.0.0.1", port=place.port, log_level="warning", generate_client_file=False)
