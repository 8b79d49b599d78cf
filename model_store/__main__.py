"""`python -m model_store`: look at the models in a store, and check them."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .card import Card
from .errors import StoreError
from .store import DEFAULT_ROOT, Store
from .version import ModelVersion

console = Console()


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where something is wrong with a model, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    store = Store(options.store)
    try:
        if options.command == "list":
            return list_models(store)
        if options.command == "show":
            return show(store, options.model)
        return verify(store, options.model)
    except StoreError as error:
        console.print(f"[red]{error}[/red]", soft_wrap=True)
        return 1


def list_models(store: Store) -> int:
    """A row for each version."""
    table = Table(title=f"Models in {store.root}", title_justify="left")
    for column in ("model", "images", "latents", "network", "likelihood", "created"):
        table.add_column(column)
    for column in ("parameters", "MB", "test ELBO, nats"):
        table.add_column(column, justify="right")
    for version in store.versions():
        table.add_row(f"[bold]{version}[/bold]", *_row(store, version))
    console.print(table)
    return 0


def show(store: Store, reference: str) -> int:
    """Everything that one card says."""
    version = store.resolve(reference)
    card = store.card(version)
    console.print(f"[bold]{version}[/bold]  {store.folder(version)}", soft_wrap=True)
    console.print_json(card.model_dump_json(exclude={"metrics"}))
    table = Table(title="Metrics", title_justify="left")
    table.add_column("name")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("protocol")
    for metric in card.metrics:
        table.add_row(metric.name, f"{metric.value:.4g}", metric.unit, metric.protocol)
    console.print(table)
    return 0


def verify(store: Store, reference: str | None) -> int:
    """Read every version as the service would: card, hash, tensors."""
    versions = [store.resolve(reference)] if reference else store.versions()
    problems = [problem for version in versions if (problem := _problem(store, version))]
    sound = len(versions) - len(problems)
    console.print(f"{sound} of {len(versions)} versions are sound.")
    return 1 if problems else 0


def _problem(store: Store, version: ModelVersion) -> StoreError | None:
    try:
        store.load(version)
    except StoreError as error:
        console.print(f"[red]✗[/red] [bold]{version}[/bold]  {error}", soft_wrap=True)
        return error
    console.print(f"[green]✓[/green] [bold]{version}[/bold]")
    return None


def _row(store: Store, version: ModelVersion) -> tuple[str, ...]:
    try:
        card = store.card(version)
    except StoreError as error:
        return (f"[red]{error}[/red]",)
    return (
        "×".join(map(str, card.model.image_shape)),
        "×".join(map(str, card.model.latent_shape)),
        card.model.network.kind,
        card.model.likelihood.kind,
        f"{card.created:%Y-%m-%d}",
        f"{card.weights.parameters:,}",
        f"{card.weights.bytes / 1e6:.1f}",
        _elbo(card),
    )


def _elbo(card: Card) -> str:
    metric = card.metric("elbo_nats")
    return f"{metric.value:.2f}" if metric else "–"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="a table of all models and versions")
    shown = commands.add_parser("show", help="the card of one model")
    shown.add_argument("model", help="name, for the newest version, or name@version")
    checked = commands.add_parser("verify", help="read models as the service would and say what is wrong with them")
    checked.add_argument("model", nargs="?", help="name or name@version; every version when left out")
    for command in commands.choices.values():
        command.add_argument("--store", type=Path, default=DEFAULT_ROOT, help="the store's folder (%(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
