"""Triton through nvidia-pytriton: Triton in front, our functions in threads of this process.

Setting: two instances of each model, dynamic batches of up to 16 that wait for at most 1 ms, one thread of torch for
each instance. gRPC and metrics are off.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from ...place import Place, here
from .. import network, pictures

BATCH, DELAY_US = 16, 1000


def main(place: Place) -> None:
    """Serve `encode` and `sample`."""
    loaded = network.load()

    @batch
    def encode(png: NDArray[np.bytes_]) -> dict[str, NDArray[np.float32]]:
        """PNGs (B, 1) → latents (B, D)."""
        return {"latents": loaded.encode(torch.stack([pictures.read(row[0]) for row in png])).numpy()}

    @batch
    def sample(count: NDArray[np.int32]) -> dict[str, NDArray[np.bytes_]]:
        """As many PNGs as there are rows, (B, 1)."""
        pngs = [pictures.write(pixels) for pixels in loaded.sample(len(count))]
        return {"png": np.array([[png] for png in pngs], dtype=object)}

    batcher = ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=DELAY_US))
    png, latents = Tensor(name="png", dtype=bytes, shape=(1,)), Tensor(name="latents", dtype=np.float32, shape=(-1,))
    count = Tensor(name="count", dtype=np.int32, shape=(1,))
    with Triton(config=configuration(place), workspace=place.scratch / "triton") as triton:
        triton.bind("encode", [encode] * place.workers, inputs=[png], outputs=[latents], config=batcher)
        triton.bind("sample", [sample] * place.workers, inputs=[count], outputs=[png], config=batcher)
        triton.serve()


def configuration(place: Place) -> TritonConfig:
    """HTTP on loopback, and nothing else."""
    grpc, metrics, *_ = place.other_ports
    return TritonConfig(
        http_address="127.0.0.1",
        http_port=place.port,
        grpc_address="127.0.0.1",
        grpc_port=grpc,
        metrics_address="127.0.0.1",
        metrics_port=metrics,
        log_verbose=0,
    )


if __name__ == "__main__":
    main(here())
