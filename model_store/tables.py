"""Stored models as tables for people. They fit a terminal of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from .card import Card, Metric, Source
from .errors import StoreError
from .vae.sentences import counted, shape_text
from .version import ModelVersion


def versions(cards: Mapping[ModelVersion, Card | StoreError], marks: Mapping[ModelVersion, Sequence[str]]) -> Table:
    """A table with a row for each version and its marks, such as `default`. The ELBO is in nats per test image."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    for column in ("images", "latents"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "MB", "ELBO"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True)
    for version, card in cards.items():
        name = f"[bold]{version}[/bold]" + (f" ({', '.join(marks[version])})" if marks.get(version) else "")
        if isinstance(card, StoreError):
            table.add_row(name, "[red]broken[/red]")
            continue
        elbo = card.metric("elbo_nats")
        table.add_row(
            name,
            shape_text(card.model.image_shape),
            shape_text(card.model.latent_shape),
            f"{card.weights.parameters:,}",
            f"{card.weights.bytes / 1e6:.1f}",
            f"{elbo.value:.2f}" if elbo else "–",
            f"{card.created:%Y-%m-%d}",
        )
    return table


def facts(card: Card) -> Table:
    """A table of the facts in a card: the network, the weights, the training."""
    model, trained = card.model, card.training
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_row("images", f"{shape_text(model.image_shape)} (C×H×W)")
    table.add_row("latents", shape_text(model.latent_shape))
    for name, value in model.model_dump(exclude={"family", "image_shape", "latent_shape"}).items():
        parts = value if name == "samplers" else [value]
        table.add_row(name, "; ".join(_describe(part) if isinstance(part, dict) else str(part) for part in parts))
    table.add_row("weights", f"{card.weights.parameters:,} parameters, {card.weights.bytes / 1e6:.1f} MB")
    table.add_row("sha256", card.weights.sha256)
    table.add_row("created", f"{card.created:%Y-%m-%d %H:%M} UTC")
    if card.source:
        _add_source(table, card.source)
    if card.fit:
        table.add_row("fitted", f"{card.fit.kind}, as the {card.fit.role}, to {escape(card.fit.model)}")
    for warning in card.warnings:
        table.add_row("[yellow]warning[/yellow]", f"[yellow]{escape(warning)}[/yellow]")
    if trained is None:
        return table
    data, epochs, seconds = trained.data, counted(trained.epochs, "epochs"), trained.seconds
    duration = counted(round(seconds), "seconds") if seconds < 60 else counted(round(seconds / 60), "minutes")
    device = re.sub(r"\b1 threads\b", "1 thread", escape(trained.device))  # cards of older releases say "1 threads"
    table.add_row("data", f"{escape(data.name)}; sha256 {data.sha256[:16]}…")
    table.add_row("", f"{counted(data.train_images, 'images')} to train on, {data.validation_images:,} to choose by")
    table.add_row("", f"{data.test_images:,} to test with")
    table.add_row("training", f"{epochs} in {duration} on {device}")
    table.add_row("", f"best epoch {trained.best_epoch}, seed {trained.seed}, torch {trained.torch}")
    table.add_row("commit", escape(trained.git_commit or "not known"))
    return table


def metrics(numbers: Iterable[Metric]) -> Table:
    """A table of measured numbers, each with its unit and its protocol."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("protocol")
    previous = ""
    for metric in numbers:
        protocol = "the same" if metric.protocol == previous else escape(metric.protocol)
        table.add_row(escape(metric.name), escape(metric.measurement), protocol)
        previous = metric.protocol
    return table


def measurements(numbers: Iterable[Metric]) -> Table:
    """A table of the numbers that an import has measured: for each its name and its value with the unit."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for metric in numbers:
        in_megabytes = metric.unit == "B"
        shown = f"{metric.value / 1e6:,.0f} MB" if in_megabytes else f"{metric.value:.2f} {metric.unit}"
        table.add_row(escape(_words(metric.name)), shown)
    return table


def _words(name: str) -> str:
    """The name of a metric for people, without its unit, which stands beside the value."""
    return re.sub(r"_(db|s|bytes)(?=_|$)", "", name).replace("_", " ").replace("psnr", "reconstruction PSNR")


def _add_source(table: Table, source: Source) -> None:
    table.add_row("source", escape(f"{source.kind} {source.place}, read on {source.read:%Y-%m-%d}"))
    for file in source.files:
        table.add_row("", escape(f"{file.name}; sha256 {file.sha256[:16]}…"))
    licence = (source.licence or "not known").strip().partition("\n")[0]
    table.add_row("licence", escape(licence))


def _describe(part: dict[str, object]) -> str:
    texts = [str(part.pop("kind"))] if "kind" in part else []
    for name, value in part.items():
        if value is not None:
            texts.append(f"{name} {'-'.join(map(str, value)) if isinstance(value, tuple) else value}")
    return ", ".join(texts)
