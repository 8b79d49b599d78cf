"""`python -m training.fit_prior MODEL`: fit a distribution to a stored model's latents, and publish a new version.

The new version has the encoder and the decoder of the model, byte for byte. The distribution is its prior, or
a sampler: a further distribution, from which `sample` can draw. All numbers of the card are measured anew.
"""

from __future__ import annotations

from .stopping import Stopped, leave_at_once, raise_stopped

if __name__ == "__main__":
    leave_at_once()  # before the slow imports below

import argparse
import os
from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from pydantic import ValidationError

from model_store import VAE, FitSummary, ModelVersion, Store, StoredModel, StoreError, VAEConfig
from model_store.files import read_file
from model_store.vae import Flow, FlowConfig, Mixture, MixtureConfig, UniformConfig
from model_store.vae.device import NoSuchDevice, choose_device, dtype_of
from model_store.vae.record import validation_messages

from . import console
from .arguments import add_places_and_device, at_least_one, path_argument
from .data import Dataset
from .devices import device_name
from .errors import BadData, CannotFit, CannotPublish, TrainingError
from .evaluate.figures import MAX_FIGURE_BYTES, figures
from .evaluate.images import load_test
from .evaluate.report import report
from .fitting import BINARISATIONS, fit, posteriors_of
from .publish import git_commit, prepare

Role = Literal["prior", "sampler"]
Kind = Literal["flow", "mixture"]

STEPS = 5000
SEED = 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 when a version was published, 128 and the number after a signal."""
    options = argument_parser().parse_args(arguments)
    with raise_stopped():
        try:
            version = fit_and_publish(options)
        except Stopped as stopped:
            console.say("Stopped; nothing is published.")
            return stopped.status
        except (TrainingError, StoreError, NoSuchDevice, OSError) as error:
            console.fail(str(error))
            return 1
    console.say(f"Published {version} in {Store(options.store).folder(version)}")
    return 0


def fit_and_publish(options: argparse.Namespace) -> ModelVersion:
    """Fit the distribution that the options describe, and publish a version with it.

    Raises:
        TrainingError, StoreError: the model, the images or the store cannot be used.
    """
    store = Store(options.store)
    stored = store.load(store.resolve(options.model))
    role: Role = options.role or ("sampler" if stored.vae.config.is_posterior_a_point else "prior")
    torch.manual_seed(SEED)  # of the weights that the fit begins with
    sizes = {"couplings": options.couplings, "width": options.width, "components": options.components}
    model, distribution = with_distribution(stored, learned_config(options.kind, sizes), role)
    prepare(store, stored.version.name)
    dataset = load_test(stored.card, options.data, options.cache)
    if not (len(dataset.train) and len(dataset.validation)):
        raise BadData(dataset.name, "the card has no recipe, which tells the training images from the others")
    device = choose_device(options.device)
    model.to(device)
    generator = torch.Generator().manual_seed(SEED)
    train = posteriors_of(model, dataset.train, generator, BINARISATIONS)
    held_out = posteriors_of(model, dataset.validation, generator)
    found = fit(distribution, train, held_out, steps=options.steps, seed=SEED)
    console.say(f"log p(z) of the held-out latents {found.log_density_nats:.2f} nats, {found.steps} steps")
    summary = FitSummary(
        model=str(stored.version),
        kind=options.kind,
        role=role,
        steps=found.steps,
        seconds=round(found.seconds, 1),
        seed=SEED,
        log_density_nats=found.log_density_nats,
        protocol=f"mean of {len(held_out.mean)} held-out images, one posterior draw each",
        git_commit=os.environ.get("GIT_COMMIT") or git_commit(),
        device=device_name(device),
        torch=torch.__version__,
    )
    return publish(store, stored, model, dataset, summary)


def learned_config(kind: Kind, sizes: Mapping[str, int | None]) -> FlowConfig | MixtureConfig:
    """The record of a distribution; sizes that are None have their default.

    Raises:
        CannotFit: a size does not fit the kind.
    """
    config = FlowConfig if kind == "flow" else MixtureConfig
    try:
        return config.model_validate({name: size for name, size in sizes.items() if size is not None})
    except ValidationError as error:
        raise CannotFit(f"as a {kind}: {validation_messages(error, config)[0]}") from error


def with_distribution(
    stored: StoredModel, learned: FlowConfig | MixtureConfig, role: Role
) -> tuple[VAE, Flow | Mixture]:
    """A model with the networks of a stored one and a new distribution, and that distribution.

    It replaces the prior, or a sampler of the same kind.

    Raises:
        OtherFamily: the model is of another family.
        CannotFit: the model cannot have such a distribution.
    """
    vae, config = stored.vae, stored.vae.config
    others = tuple(sampler for sampler in config.samplers if sampler.kind != learned.kind)
    if role == "prior" and isinstance(config.prior, UniformConfig):
        problem = f"as the prior of {stored.version}: its decoder reads latents in [0, 1], as of a uniform prior"
        raise CannotFit(problem, "fit a sampler with --as sampler")
    change = {"prior": learned} if role == "prior" else {"samplers": (*others, learned)}
    try:
        model = VAE(VAEConfig.model_validate({**dict(config), **change}))
    except ValidationError as error:
        raise CannotFit(f"to {stored.version}: {validation_messages(error, VAEConfig)[0]}") from error
    model.encoder, model.decoder = vae.encoder, vae.decoder
    if role == "sampler":
        model.prior = vae.prior
    for kind, sampler in vae.samplers.items():
        if role == "prior" or kind != learned.kind:
            model.samplers[kind] = sampler
    distribution = model.prior if role == "prior" else model.sampler(learned.kind)
    return model, cast("Flow | Mixture", distribution)


def publish(store: Store, stored: StoredModel, model: VAE, dataset: Dataset, fitted: FitSummary) -> ModelVersion:
    """Measure a model with a fitted distribution, and publish it as the next version of the stored one.

    Raises:
        CannotPublish: the store cannot be written.
        NotFinite: a measured number is not finite.
    """
    model.to(dtype_of(model.decoder)).eval().requires_grad_(False)  # a file has tensors of one type
    found = report(model, dataset)
    model = model.cpu()
    card, curves = stored.card, store.folder(stored.version) / "curves.png"
    try:
        kept = {curves.name: read_file(curves, MAX_FIGURE_BYTES)} if curves.exists() else {}  # of the training
        return store.publish(
            stored.version.name,
            model,
            source=card.source,
            preview=card.preview,
            training=card.training,
            fit=fitted,
            metrics=found.metrics,
            latents=found.latents,
            scores=found.scores,
            warnings=found.warnings,
            files={**kept, **figures(model, dataset.test)},
        )
    except (StoreError, OSError) as error:
        raise CannotPublish(store.root, error) from error


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments; its help names the store in use."""
    parser = argparse.ArgumentParser(prog="python -m training.fit_prior", description=__doc__)
    parser.add_argument("model", help="a model's name, for its newest version, name@version or name@alias")
    parser.add_argument("--kind", choices=get_args(Kind), default="flow", help="default: %(default)s")
    parser.add_argument(
        "--as",
        dest="role",
        choices=get_args(Role),
        help="prior: the new version's prior, on which its bounds depend; sampler: for sample alone; default: prior, "
        "and sampler for a plain autoencoder",
    )
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="the images that the model was trained on; by default the recipe's data set is downloaded",
    )
    parser.add_argument(
        "--steps",
        type=at_least_one,
        default=STEPS,
        metavar="N",
        help="the most steps; a fit that gets no better ends earlier; default: %(default)s",
    )
    for name, what in (
        ("couplings", "of a flow: its affine couplings"),
        ("width", "of a flow: the units of a layer of a coupling"),
        ("components", "of a mixture: its Gaussians"),
    ):
        parser.add_argument(f"--{name}", type=at_least_one, metavar="N", help=what)
    add_places_and_device(parser, store="the store of the model and of its new version")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
