"""The bare step: forward, backward and fused Adam on the same batch every time, in the recipe's precision.

With the same network, batch and precision a loop is faster by chance only. `python -m benchmarks.training.bare TASK`.
"""

from __future__ import annotations

import torch

from model_store.vae import VAE, VAEConfig
from training.devices import autocast, place

from . import protocol
from .bound import negative_bound


def main() -> None:
    """Train on one batch of noise."""
    task, device = protocol.task(), torch.device(protocol.task().device)
    model = VAE(VAEConfig.model_validate_json(task.network))
    place(model, device, task.precision)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batch = (protocol.pixels(task.image_shape)[: task.batch_images].float() / 255).to(device)

    def epoch() -> None:
        for _ in range(0, protocol.IMAGES, task.batch_images):
            with autocast(device, task.precision):
                loss = negative_bound(model, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    protocol.train(task.epochs, epoch, task.device)


if __name__ == "__main__":
    main()
