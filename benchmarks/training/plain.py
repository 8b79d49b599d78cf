"""A plain loop: a DataLoader, Adam, float32. `python -m benchmarks.training.plain TASK`."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from model_store.vae import VAE, VAEConfig

from . import protocol
from .bound import negative_bound


def main() -> None:
    """Train on random images."""
    task = protocol.task()
    model = VAE(VAEConfig.model_validate_json(task.network)).to(task.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = TensorDataset(protocol.pixels(task.image_shape).float() / 255)
    loader = DataLoader(images, batch_size=task.batch_images, shuffle=True, pin_memory=task.device == "cuda")

    def epoch() -> None:
        total = 0.0
        for (batch,) in loader:
            optimiser.zero_grad()
            loss = negative_bound(model, batch.to(task.device))
            loss.backward()
            total += loss.item()
            optimiser.step()

    protocol.train(task.epochs, epoch, task.device)


if __name__ == "__main__":
    main()
