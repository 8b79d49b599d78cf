"""The material of the figures: images, their classes, the shipped model, and small models trained for a figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from model_store import VAE, Store
from model_store.files import read_file
from training.console import say
from training.data import Dataset
from training.errors import BadData, DataNotFound
from training.evaluate.images import load_test
from training.loop import start, train
from training.recipe import read_recipe
from training.sources import idx
from training.sources.download import DATASETS, DEFAULT_CACHE, PublicDataset, PublicFile, fetch

SHIPPED = "mnist@1"
LABELS = "t10k-labels-idx1-ubyte"
LABELS_BYTES = 10_008
LABELS_SHA256 = "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
SMALL = ("optimiser.learning_rate=2e-3", "model.network.hidden=[256, 256]", "model.network.activation=relu")
PLANE = (*SMALL, "epochs=15", "model.latent_shape=[2]")
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Material:
    """The images, the model mnist@1, and the classes (10 000,) of the test images."""

    images: Dataset
    labels: Tensor
    shipped: VAE

    @cached_property
    def few(self) -> Dataset:
        """20 000 training images, enough for small networks."""
        return replace(self.images, train=self.images.train[:20_000], validation=self.images.validation[:1000])

    def trained(self, *changes: str) -> VAE:
        """Train the recipe mnist-mlp with these changes, on the few images."""
        say(f"  training mnist-mlp with {', '.join(changes)}")
        run = start(read_recipe("mnist-mlp", changes), CPU)
        train(run, self.few, lambda _: None)
        return run.averaged

    @cached_property
    def plane(self) -> VAE:
        """A variational autoencoder with two latents; several figures share it."""
        return self.trained(*PLANE)


def gather(place: Path | None) -> Material:
    """Read the material from a folder, or download it.

    Raises:
        DataNotFound, DownloadFailed: there are no images.
        BadData: the images or labels cannot be used.
    """
    store = Store()
    shipped = store.load(store.resolve(SHIPPED))
    return Material(load_test(shipped.card, place), read_labels(place or fetch_labels()), shipped.vae)


def fetch_labels() -> Path:
    """Download the classes of the test images into the cache, and return their folder. Training does not use them."""
    mnist = PublicDataset(DATASETS["mnist"].mirrors, {LABELS: PublicFile(LABELS_SHA256, LABELS_BYTES)})
    return fetch("mnist", DEFAULT_CACHE, {"mnist": mnist})


def read_labels(folder: Path) -> Tensor:
    """Read the classes 0 … 9 of the test images, (N,), from an IDX file: eight bytes of header, then a byte for each.

    Raises:
        DataNotFound: the folder has no such file.
        BadData: the file is not an IDX file of labels.
    """
    path = idx.find(folder, LABELS)
    if path is None:
        raise DataNotFound(folder, f"it has no {LABELS} or {LABELS}.gz, which gives the figures their colours")
    content = read_file(path, LABELS_BYTES + 1000, follow_links=True)
    content = idx.unpack(content, LABELS_BYTES) if path.suffix == ".gz" else content
    if content[:4] != b"\x00\x00\x08\x01":
        raise BadData(path, "it is not an IDX file of labels")
    return torch.frombuffer(bytearray(content[8:]), dtype=torch.uint8)
