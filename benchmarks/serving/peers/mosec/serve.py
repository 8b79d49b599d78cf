"""mosec: HTTP in Rust, batches in Python workers.

Setting: two worker processes, batches of up to 16 that wait for at most 1 ms, one thread of torch a worker. Both
operations go to the same workers, so that it has as many processes as the others: a body that is a PNG is encoded,
an empty JSON object asks for a sample. mosec fixes the media type of a route, so it is a general one.
"""

from __future__ import annotations

import json
import sys

import torch
from mosec import Server, Worker
from torch import Tensor

from ...place import here
from .. import network, pictures

BATCH, WAIT_MS = 16, 1
SAMPLE = None


class VAE(Worker):
    """Encodes pictures and draws samples, as many at once as there are."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self.network = network.load()

    def deserialize(self, data: bytes) -> Tensor | None:
        """Pixels of a PNG; None for a sample."""
        return SAMPLE if data == b"{}" else pictures.read(data)

    def forward(self, data: list[Tensor | None]) -> list[Tensor]:
        """Latents (D,) of pixels, pixels (C, H, W) of samples, in order."""
        images = [pixels for pixels in data if pixels is not SAMPLE]
        latents = iter(self.network.encode(torch.stack(images)) if images else ())
        samples = iter(self.network.sample(len(data) - len(images)) if len(images) < len(data) else ())
        return [next(samples if pixels is SAMPLE else latents) for pixels in data]

    def serialize(self, data: Tensor) -> bytes:
        """JSON of latents, a PNG of pixels."""
        if data.dtype == torch.uint8:
            return pictures.write(data)
        return json.dumps({"latents": [data.tolist()]}).encode()


if __name__ == "__main__":
    place = here()
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(place.port), "--log-level", "warning"]
    sys.argv += ["--path", str(place.scratch / "mosec"), "--timeout", "30000"]
    server = Server()
    server.append_worker(VAE, num=place.workers, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()
