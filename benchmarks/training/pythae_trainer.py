"""Pythae's BaseTrainer with our network, in its own environment: `-m benchmarks.training.pythae_trainer TASK`."""

from __future__ import annotations

import logging
import tempfile
import time
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE as Pythae
from pythae.models import VAEConfig as PythaeConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor

from model_store.vae import VAE, VAEConfig

from . import protocol


class Encoder(BaseEncoder):  # type: ignore[misc]  # Pythae is in an environment of its own
    """Our encoder with Pythae's interface."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        if model.encoder is None:
            raise ValueError("the model has no encoder; expected a variational autoencoder's")
        self.network = model.encoder

    def forward(self, images: Tensor) -> ModelOutput:
        """(B, C, H, W) → mean and log-variance."""
        mean, log_variance = self.network(images).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):  # type: ignore[misc]  # Pythae is in an environment of its own
    """Our decoder with Pythae's interface, which takes probabilities."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.network = model.decoder

    def forward(self, latents: Tensor) -> ModelOutput:
        """(B, D) → (B, C, H, W)."""
        return ModelOutput(reconstruction=self.network(latents).sigmoid())


class Turns(TrainingCallback):  # type: ignore[misc]  # Pythae is in an environment of its own
    """Waits before each epoch and reports after it."""

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Wait, then start the clock."""
        protocol.wait_for_turn()
        self.began = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        protocol.report(protocol.IMAGES / (time.perf_counter() - self.began))


def main() -> None:
    """Train on random images."""
    task = protocol.task()
    logging.disable(logging.INFO)
    config = VAEConfig.model_validate_json(task.network)
    ours = VAE(config)
    theirs = PythaeConfig(input_dim=config.image_shape, latent_dim=config.latent_shape[0], reconstruction_loss="bce")
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=task.batch_images,
            num_epochs=task.epochs,
            learning_rate=1e-3,
            keep_best_on_train=True,
            no_cuda=task.device == "cpu",
        )
        trainer = BaseTrainer(
            model=Pythae(theirs, encoder=Encoder(ours), decoder=Decoder(ours)),
            train_dataset=BaseDataset(protocol.pixels(task.image_shape).float() / 255, torch.zeros(protocol.IMAGES)),
            training_config=training,
            callbacks=[Turns()],
        )
        trainer.train()


if __name__ == "__main__":
    main()
