"""`python docs/make_figures.py [NAME …]`: the figures of theory.md. Every number there is one that is said here."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from model_store import VAE, Store
from model_store.vae import Bernoulli, DiagonalGaussian, StandardNormal
from model_store.vae.noise import standard_normal
from model_store.vae.pixels import grid, to_images, to_pixels
from model_store.vae.protocol import judged
from training.data import Dataset
from training.errors import BadData, DataNotFound
from training.evaluate import load_test
from training.evaluation import EVALUATION_SEED, evidence, score
from training.loop import start, train
from training.novelty import nearest
from training.recipe import read_recipe
from training.screen import say
from training.sources import idx
from training.sources.download import DATASETS, DEFAULT_CACHE, PublicDataset, fetch

FOLDER = Path(__file__).parent / "figures"
SHIPPED = "mnist@1"
SEED = 0
DRAWS = 10  # of the posterior for each ELBO of figure abc

LABELS = "t10k-labels-idx1-ubyte"
LABELS_SHA256 = "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"

SMALL = ("optimiser.learning_rate=2e-3", "model.network.hidden=[256, 256]", "model.network.activation=relu")
PLANE = (*SMALL, "epochs=15", "model.latent_shape=[2]")
GENERATOR = (
    *SMALL,
    "epochs=8",
    "model.latent_shape=[8]",
    "model.likelihood.kind=gaussian",
    "model.likelihood.standard_deviation=0.25",
)

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Material:
    """What the figures are made of: the images and the model mnist@1, and the classes (10 000,) of the test images."""

    images: Dataset
    labels: Tensor
    shipped: VAE

    @cached_property
    def few(self) -> Dataset:
        """20 000 training images, enough for small networks."""
        return replace(self.images, train=self.images.train[:20_000], validation=self.images.validation[:1000])

    def trained(self, *changes: str) -> VAE:
        """The recipe mnist-mlp with these changes, on the few images."""
        say(f"  training mnist-mlp with {', '.join(changes)}")
        run = start(read_recipe("mnist-mlp", changes), CPU)
        train(run, self.few, lambda _: None)
        return run.averaged

    @cached_property
    def plane(self) -> VAE:
        """A variational autoencoder with two latents, which several figures show."""
        return self.trained(*PLANE)


# ── 1  autoencoder ──────────────────────────────────────────────────────────────────────────────────────────────────


def autoencoder(material: Material) -> Figure:
    """The two latents of a plain autoencoder, and what it makes of test images."""
    model = material.trained(*PLANE, "model.posterior=point")
    test = material.images.test
    latents = means(model, test)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    plane, pictures = figure.subplots(1, 2, width_ratios=(1, 1.1))
    scatter(plane, latents[:2000], material.labels[:2000])
    plane.set(title="latents of 2000 test images", aspect="equal")
    remade = decoded(model, latents[:16])
    rows = [part for half in (0, 8) for part in (test[half : half + 8], remade[half : half + 8])]
    show(pictures, torch.cat(rows), columns=8, title="test images; under each what its two numbers give")
    plane.legend(ncols=10, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), **LEGEND)
    say(f"  standard deviation of the latents over 10 000 test images: {numbers(latents.std(0))}")
    return figure


# ── 2  a generator by plain maximum likelihood ──────────────────────────────────────────────────────────────────────


def erased(pixels: Tensor, side: int = 5) -> Tensor:
    """(b): black in the one side×side window that holds the most ink; uint8 (N, 1, H, W), as is the result."""
    ink = F.avg_pool2d(pixels.float(), side, stride=1)
    place = ink.flatten(1).argmax(1)
    rows = window(place // ink.shape[3], side, pixels.shape[2])
    columns = window(place % ink.shape[3], side, pixels.shape[3])
    return pixels.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def shifted(pixels: Tensor, right: int = 1, down: int = 0) -> Tensor:
    """(c): moved by whole pixels; uint8 (N, 1, H, W), as is the result. What leaves the image is lost."""
    return F.pad(pixels, (right, -right, down, -down))


def window(first: Tensor, side: int, length: int) -> Tensor:
    """Which of `length` places lie in the window of `side` that begins at `first` (N,): booleans (N, length)."""
    places = torch.arange(length)
    return (places >= first.unsqueeze(1)) & (places < first.unsqueeze(1) + side)


def abc(material: Material) -> Figure:
    """Digits (a), with a piece erased (b) and shifted (c): pixels prefer (b), the model (c)."""
    original, shown = material.images.test[:1000], 8
    copies = (original, erased(original), shifted(original))
    errors = [squared_error(copy, original) for copy in copies]
    bounds = [score(material.shipped, copy[:shown], DRAWS).elbo_nats for copy in copies]
    say_preferences(material.shipped, original)
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    for name, row, copy, error, bound in zip("abc", figure.subplots(3, shown), copies, errors, bounds, strict=True):
        row[0].set_ylabel(f"({name})", rotation=0, labelpad=14, fontsize=11)
        for axes, image, mse, elbo in zip(row, copy, error, bound, strict=False):
            axes.imshow(image[0], cmap="gray")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"MSE {mse:.3f}\nELBO {signed(elbo.item())}", fontsize=8)
    return figure


def say_preferences(model: VAE, original: Tensor) -> None:
    """Of how many digits the pixels prefer (b), and the model (c), for several (c)."""
    erasure = erased(original)
    bounds, errors = score(model, erasure, DRAWS).elbo_nats, squared_error(erasure, original)
    say(f"  (a) ELBO {score(model, original, DRAWS).elbo_nats.mean():.1f} nats")
    say(f"  (b) a 5×5 window erased: MSE {errors.mean():.3f}, ELBO {bounds.mean():.1f} nats")
    for right, down in ((1, 0), (1, 1), (2, 0)):
        copy = shifted(original, right, down)
        elbo, mse = score(model, copy, DRAWS).elbo_nats, squared_error(copy, original)
        closer = distance(model, original, copy) < distance(model, original, erasure)
        say(f"  (c) {right} right, {down} down: MSE {mse.mean():.3f}, ELBO {elbo.mean():.1f} nats; of {len(copy)}")
        say(f"    MSE prefers (b) in {percent(errors < mse)}, ELBO (c) in {percent(elbo > bounds)},")
        say(f"    distance of posterior means (c) in {percent(closer)}")


def squared_error(one: Tensor, other: Tensor) -> Tensor:
    """The mean squared error of uint8 pixels (N, C, H, W), (N,), on the scale [0, 1]."""
    return (to_images(one) - to_images(other)).square().flatten(1).mean(1)


def distance(model: VAE, one: Tensor, other: Tensor) -> Tensor:
    """The Euclidean distance between the posterior means of uint8 pixels (N, C, H, W), (N,)."""
    return (means(model, one) - means(model, other)).flatten(1).norm(dim=1)


def ml_vs_vae(material: Material) -> Figure:
    """Samples of the same decoder, trained for the same number of steps in two ways."""
    generator = material.trained(*GENERATOR, "model.posterior=none", "objective.draws=100")
    vae = material.trained(*GENERATOR)
    test = material.images.test[:1000]
    prior, unguided = (evidence(model, test).mean().item() for model in (generator, vae))
    posterior = score(vae, test, draws=100).importance_weighted_nats.mean().item()
    say(f"  bounds of log p(x), mean of {len(test)} test images: generator {prior:.1f} by 1000 draws of the prior,")
    say(f"  VAE {posterior:.1f} by 100 draws of the posterior, and {unguided:.1f} by 1000 of the prior")
    figure = Figure(figsize=(9, 5.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, samples(generator, 64), title=f"draws of the prior, 100 a step\nlog p(x) ≥ {signed(prior)} nats")
    show(right, samples(vae, 64), title=f"draws of the posterior, 1 an image\nlog p(x) ≥ {signed(posterior)} nats")
    return figure


# ── 3, 5  variational inference, and what its KL does ───────────────────────────────────────────────────────────────


def kl(material: Material) -> Figure:
    """The posterior means of test images in a plane, for three weights of the KL."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, weight in zip(figure.subplots(1, 3, sharex=True, sharey=True), (0.05, 1.0, 4.0), strict=True):
        model = material.plane if weight == 1 else material.trained(*PLANE, f"objective.kl_weight={weight}")
        nats = say_scores(model, material.images.test, f"β = {weight:g}")
        scatter(axes, means(model, material.images.test[:2000]), material.labels[:2000])
        circles(axes)
        axes.set(title=f"β = {weight:g}: KL {nats:.1f} nats", xlim=(-6, 6), ylim=(-6, 6), aspect="equal")
    figure.legend(*axes.get_legend_handles_labels(), ncols=10, frameon=False, loc="outside lower center", **LEGEND)
    return figure


def say_scores(model: VAE, pixels: Tensor, name: str) -> float:
    """What a model spends on uint8 pixels (N, C, H, W), and where it puts them; gives the mean KL in nats."""
    scores, places = score(model, pixels), means(model, pixels)
    say(f"  {name}: log-likelihood {scores.log_likelihood_nats.mean():.1f} − KL {scores.kl_nats.mean():.2f}")
    say(f"    = ELBO {scores.elbo_nats.mean():.1f} nats, mean of {len(pixels)} test images")
    say(f"    standard deviation of the means {numbers(places.std(0))}; {percent(places.abs().amax(1) > 6)} beyond 6")
    return scores.kl_nats.mean().item()


def manifold(material: Material) -> Figure:
    """The plane of latents, decoded at the quantiles of the prior."""
    count = 20
    quantiles = torch.special.ndtri((torch.arange(count) + 0.5) / count)
    latents = torch.cartesian_prod(-quantiles, quantiles).flip(1)  # z₁ to the right, z₂ upwards
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    axes = figure.subplots()
    show(axes, decoded(material.plane, latents), columns=count)
    axes.set(xlabel="$z_1$, quantiles of the prior", ylabel="$z_2$, quantiles of the prior")
    return figure


# ── 4  the bound, twice ─────────────────────────────────────────────────────────────────────────────────────────────


def bound(material: Material) -> Figure:
    """The importance-weighted bound rises with its draws to log p(x), which can be integrated over two latents."""
    model, pixels = material.plane, material.images.test[:500]
    elbo = score(model, pixels, draws=1000).elbo_nats.mean().item()
    exact, divergence = (values.mean().item() for values in integrated(model, pixels))
    draws = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    weighted = [score(model, pixels, count).importance_weighted_nats.mean().item() for count in draws]
    say(f"  ELBO {elbo:.2f} + KL(q‖p(z|x)) {divergence:.2f} = {elbo + divergence:.2f}; log p(x) {exact:.2f} nats")
    say("  " + ", ".join(f"L_{count} {value:.2f}" for count, value in zip(draws, weighted, strict=True)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(exact, color="black", label=f"log p(x) by integration: {signed(exact, 2)}")
    axes.semilogx(draws, weighted, "o-", label="importance-weighted bound of K draws")
    axes.axhline(elbo, color="tab:red", linestyle="--", label=f"ELBO: {signed(elbo, 2)}; below log p(x) by its KL")
    axes.set(xlabel="K", ylabel="nats per image")
    axes.legend(frameon=False, loc="center right")
    axes.grid(alpha=0.3)
    return figure


@torch.inference_mode()
def integrated(model: VAE, pixels: Tensor, end: float = 6.0, step: float = 0.02) -> tuple[Tensor, Tensor]:
    """log p(x) and KL(q(z|x) ‖ p(z|x)), (N,) each, as sums over a grid of two latents from −`end` to `end`."""
    images = to_images(judged(model.config, pixels, EVALUATION_SEED))
    posterior, axis = model.infer(images), torch.arange(-end, end, step)
    area = 2 * math.log(step)
    log_evidence = torch.full((len(images),), -torch.inf)
    divergence = torch.zeros(len(images), dtype=torch.float64)
    for latents in torch.split(torch.cartesian_prod(axis, axis), 10_000):
        joint = log_joint(model, images, latents)
        log_q = log_densities(posterior, latents)
        log_evidence = log_evidence.logaddexp(joint.logsumexp(1) + area)
        divergence += ((log_q + area).exp() * (log_q - joint)).double().sum(1)
    return log_evidence, divergence + log_evidence


def log_joint(model: VAE, images: Tensor, latents: Tensor) -> Tensor:
    """log p(x, z) of each binary image with each latent, (N, M), for a Bernoulli likelihood."""
    likelihood = model.decode(latents)
    assert isinstance(likelihood, Bernoulli)  # noqa: S101  # for the type checker
    logits = likelihood.logits.flatten(1)
    return images.flatten(1) @ logits.T - F.softplus(logits).sum(1) + StandardNormal().log_prob(latents)


def log_densities(posterior: DiagonalGaussian, latents: Tensor) -> Tensor:
    """log q(z|x) of each latent (M, D) under the posterior of each image, (N, M)."""
    scaled = (latents - posterior.mean.unsqueeze(1)).square() * (-posterior.log_variance).exp().unsqueeze(1)
    return -0.5 * (scaled + posterior.log_variance.unsqueeze(1) + math.log(2 * math.pi)).sum(2)


# ── 6  the reparameterisation trick ─────────────────────────────────────────────────────────────────────────────────


def reparameterisation(_: Material) -> Figure:
    """Two estimates of the gradient of E[Σ z³] by one mean, over eight dimensions."""
    dimensions, estimates, draws = 8, 2000, 100
    parameters = standard_normal(SEED, 2, (dimensions,))
    posterior = DiagonalGaussian(parameters[:1], parameters[1:])
    noise = standard_normal(SEED + 1, estimates * draws, (dimensions,))
    closed = 3 * (posterior.mean.square() + posterior.log_variance.exp())[0, 0].item()
    found = [gradients.view(estimates, draws).mean(1) for gradients in gradients_of_first_mean(posterior, noise)]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in zip(("through the draw: ∇ f(μ + σε)", "score function: f(z) ∇ log q(z)"), found, strict=True):
        spread = f"standard deviation {values.std():.2f}"
        say(f"  {name}: mean {values.mean():.2f}, {spread}; closed {closed:.2f}")
        axes.hist(values.tolist(), bins=60, alpha=0.7, density=True, label=f"{name}\n{spread}")
    axes.axvline(closed, color="black", linestyle=":", label=f"closed: {closed:.2f}")
    axes.set(xlabel="estimate of the gradient by $\\mu_1$, from 100 draws", yticks=[])
    axes.legend(frameon=False)
    return figure


def gradients_of_first_mean(posterior: DiagonalGaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """∂/∂μ₁ of E[Σ z³] by each draw, (N,): through the draw by autograd, and by the score function."""
    mean = posterior.mean.expand(len(noise), -1).clone().requires_grad_()
    latents = DiagonalGaussian(mean, posterior.log_variance).sample(noise)
    value = latents.pow(3).sum(1)
    (slopes,) = torch.autograd.grad(value.sum(), mean)
    score_function = noise[:, 0] / (0.5 * posterior.log_variance[0, 0]).exp()
    return slopes[:, 0], value.detach() * score_function


# ── 7  new samples ──────────────────────────────────────────────────────────────────────────────────────────────────


def novelty(material: Material) -> Figure:
    """Samples of mnist@1, each beside the training image nearest to it, and how far all are."""
    pixels, train = samples(material.shipped, 1000), material.images.train
    distances = {
        "samples": nearest(to_images(pixels), train),
        "test images": nearest(to_images(material.images.test[:1000]), train),
    }
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    pictures, histogram = figure.subplots(2, 1, height_ratios=(1, 1.3))
    pairs = torch.cat([pixels[:14], torch.stack([nearest_image(sample, train) for sample in pixels[:14]])])
    show(pictures, pairs, columns=14, title="samples; under each the nearest training image")
    for name, values in distances.items():
        say(f"  {name}: median distance {values.median():.2f}, smallest {values.min():.2f}, largest {values.max():.2f}")
        label = f"1000 {name}, median {values.median():.2f}"
        histogram.hist(values.tolist(), bins=50, range=(0, 12), alpha=0.6, label=label)
    histogram.set(xlabel=f"Euclidean distance to the nearest of {len(train)} training images", ylabel="images")
    histogram.legend(frameon=False)
    return figure


def nearest_image(pixels: Tensor, train: Tensor) -> Tensor:
    """Of uint8 training pixels (N, C, H, W) the image nearest to one of (C, H, W)."""
    image = to_images(pixels.unsqueeze(0))
    distances = torch.cat([(to_images(part) - image).square().flatten(1).sum(1) for part in torch.split(train, 5000)])
    return train[distances.argmin()]


# ── parts of figures ────────────────────────────────────────────────────────────────────────────────────────────────

LEGEND = {"markerscale": 4.0, "handletextpad": 0.1, "columnspacing": 0.8}


@torch.inference_mode()
def means(model: VAE, pixels: Tensor) -> Tensor:
    """The latents that an encoder names for uint8 pixels (N, C, H, W), (N, *latent_shape)."""
    return torch.cat([model.encode(to_images(part)).mean for part in torch.split(pixels, 500)])


@torch.inference_mode()
def decoded(model: VAE, latents: Tensor) -> Tensor:
    """Mean images of latents (N, *latent_shape), uint8 (N, C, H, W)."""
    return torch.cat([to_pixels(model.decode(part).mean) for part in torch.split(latents, 100)])


def samples(model: VAE, count: int) -> Tensor:
    """Decoded draws of the prior, uint8 (count, C, H, W): the images that `training.novelty` measures."""
    return decoded(model, model.prior.sample(standard_normal(SEED, count, model.config.latent_shape)))


def show(axes: Axes, pixels: Tensor, columns: int | None = None, title: str = "") -> None:
    """Pixels uint8 (N, 1, H, W) as one picture."""
    axes.imshow(grid(pixels, columns)[0], cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def scatter(axes: Axes, latents: Tensor, labels: Tensor) -> None:
    """Latents (N, 2), coloured by class (N,)."""
    for digit in range(10):
        first, second = latents[labels == digit].T.tolist()
        axes.scatter(first, second, s=3, color=f"C{digit}", label=str(digit), linewidths=0)


def circles(axes: Axes) -> None:
    """Where the prior is one and two standard deviations from its mean."""
    angles = torch.linspace(0, 2 * math.pi, 200)
    for radius in (1, 2):
        axes.plot((radius * angles.cos()).tolist(), (radius * angles.sin()).tolist(), color="black", linewidth=0.8)


def signed(value: float, digits: int = 1) -> str:
    """A number with a proper minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def percent(which: Tensor) -> str:
    """How many of booleans (N,) are true."""
    return f"{100 * which.double().mean():.1f} %"


def numbers(values: Tensor) -> str:
    """A few numbers in a line."""
    return ", ".join(f"{value:.2f}" for value in values.tolist())


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────

FIGURES: dict[str, Callable[[Material], Figure]] = {
    figure.__name__: figure
    for figure in (autoencoder, abc, ml_vs_vae, kl, manifold, bound, reparameterisation, novelty)
}


def main() -> None:
    """Make the figures that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python docs/make_figures.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all if left out")
    parser.add_argument("--data", type=Path, metavar="DIR", help="MNIST's IDX files; without it they are downloaded")
    options = parser.parse_args()
    if unknown := set(options.names) - FIGURES.keys():
        parser.error(f"no figure is called {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    make(options.names or list(FIGURES), gather(options.data))


def make(names: Sequence[str], material: Material) -> None:
    """Write the figures of these names."""
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        began = time.perf_counter()
        say(name)
        FIGURES[name](material).savefig(FOLDER / f"{name}.png", dpi=100)
        say(f"  {time.perf_counter() - began:.0f} s")


def gather(place: Path | None) -> Material:
    """The material, from a folder or downloaded.

    Raises:
        BadData, DataNotFound, DownloadFailed: as they say.
    """
    store = Store()
    shipped = store.load(store.resolve(SHIPPED))
    return Material(load_test(shipped.card, place), read_labels(place or fetch_labels()), shipped.model)


def fetch_labels() -> Path:
    """The cache's folder that holds the classes of the test images, which training has no use for."""
    mnist = PublicDataset(DATASETS["mnist"].mirrors, {LABELS: LABELS_SHA256})
    return fetch("mnist", DEFAULT_CACHE, {"mnist": mnist})


def read_labels(folder: Path) -> Tensor:
    """The classes 0 … 9 of the test images, (N,), from an IDX file: eight bytes of header, then one for each.

    Raises:
        BadData, DataNotFound: the folder has none, or another file of that name.
    """
    path = idx.find(folder, LABELS)
    if path is None:
        raise DataNotFound(folder, f"it has no {LABELS} or {LABELS}.gz, by which the figures are coloured")
    content = idx.read_bytes(path)
    if content[:4] != b"\x00\x00\x08\x01":
        raise BadData(path, "it is not an IDX file of labels")
    return torch.frombuffer(bytearray(content[8:]), dtype=torch.uint8)


if __name__ == "__main__":
    main()
