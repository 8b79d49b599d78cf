"""The handler that TorchServe's workers run: it answers a batch of requests at once.

A PNG in the body is encoded; a request without a body asks for a sample.
"""

from __future__ import annotations

from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler

from .. import network, pictures


class VAE(BaseHandler):
    """Encodes pictures and draws samples, as many at once as there are."""

    def initialize(self, context: Any) -> None:  # noqa: ARG002 (the context is for models in archives)
        """Load the network, once a worker."""
        self.network = network.load()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """Latents or PNGs, in order."""
        bodies = [request.get("body") or request.get("data") for request in data]
        latents = iter(self._encode([bytes(body) for body in bodies if body]))
        samples = iter(self._sample(sum(not body for body in bodies)))
        for number, body in enumerate(bodies):
            context.set_response_content_type(number, "application/json" if body else "image/png")
        return [next(latents if body else samples) for body in bodies]

    def _encode(self, pngs: list[bytes]) -> list[dict[str, Any]]:
        if not pngs:
            return []
        latents = self.network.encode(torch.stack([pictures.read(png) for png in pngs]))
        return [{"latents": [row]} for row in latents.tolist()]

    def _sample(self, count: int) -> list[bytes]:
        return [pictures.write(pixels) for pixels in self.network.sample(count)] if count else []
