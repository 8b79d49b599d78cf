"""Fixtures of many tests: small models, and a store with some of them."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_store import DEFAULT_ROOT, VAE, Metric, Store, VAEConfig
from model_store.vae import ConvConfig, MLPConfig

from .process import Process

torch.set_num_threads(1)  # the models are tiny; several threads would only wait for each other

GREY = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(16,)))
COLOUR = VAEConfig(image_shape=(3, 8, 8), latent_shape=(2, 4, 4), network=ConvConfig(widths=(8,)))


@pytest.fixture
def anyio_backend() -> str:
    """Coroutine tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def signals_are_not_ignored() -> Iterator[None]:
    """`nohup` turns SIGHUP off, and `&` in a script SIGINT; every process that a test starts would inherit that."""
    before = [signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.signal(signal.SIGINT, signal.default_int_handler)]
    yield
    for number, handler in zip((signal.SIGHUP, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def shipped_store() -> Iterator[Path]:
    """The store that ships. A command that a test starts without naming a store would publish into it."""
    before = sorted(DEFAULT_ROOT.rglob("*"))
    yield DEFAULT_ROOT
    assert sorted(DEFAULT_ROOT.rglob("*")) == before, "a test has changed the store that ships"


def make_model(config: VAEConfig = GREY, seed: int = 0) -> VAE:
    """A model with random weights, strong enough that different latents give different pictures."""
    torch.manual_seed(seed)
    model = VAE(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes of a test; processes that still run at its end are killed."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with `grey@1` and `colour@1`, the default model. Tests get copies of it."""
    store = Store(tmp_path_factory.mktemp("published"))
    metric = Metric(name="elbo_nats", value=-91.5, unit="nats", protocol="none, the weights are random")
    store.publish("grey", make_model(GREY), metrics=[metric])
    store.publish("colour", make_model(COLOUR))
    store.choose_default("colour")
    return store.root


@pytest.fixture
def store(published: Path, tmp_path: Path) -> Store:
    """A store with `grey@1` and `colour@1`, the default model."""
    shutil.copytree(published, tmp_path / "store")  # publishing takes 0.1 s, since it waits for the disk
    return Store(tmp_path / "store")
