"""`python -m model_store`: look at the models in a store, and check them."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.markup import escape

from . import tables
from .card import Card
from .errors import StoreError
from .store import Store, store_folder
from .version import ModelVersion


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where something is wrong with a model, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    store, console = Store(options.store), Console(highlight=False)
    try:
        if options.command == "list":
            return list_models(store, console)
        if options.command == "show":
            return show(store, console, options.model)
        return verify(store, console, options.model)
    except (StoreError, OSError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1


def list_models(store: Store, console: Console) -> int:
    """A row for each version."""
    console.print(tables.shelf((version, _card_or_error(store, version)) for version in store.versions()))
    return 0


def show(store: Store, console: Console, reference: str) -> int:
    """Everything that one card says, but for the recipe's text."""
    version = store.resolve(reference)
    card = store.card(version)
    console.print(f"[bold]{version}[/bold]  {escape(str(store.folder(version)))}\n", soft_wrap=True)
    console.print(tables.facts(card), "")
    console.print(tables.metrics(card.metrics))
    return 0


def verify(store: Store, console: Console, reference: str | None) -> int:
    """Read every version as the service would: card, hash, tensors."""
    versions = [store.resolve(reference)] if reference else store.versions()
    sound = [_is_sound(store, console, version) for version in versions]
    console.print(f"{sum(sound)} of {len(sound)} versions are sound.")
    return 0 if all(sound) else 1


def _is_sound(store: Store, console: Console, version: ModelVersion) -> bool:
    try:
        store.load(version)
    except StoreError as error:
        console.print(f"[red]✗[/red] [bold]{version}[/bold]", end="  ")
        console.print(str(error), markup=False, soft_wrap=True)
        return False
    console.print(f"[green]✓[/green] [bold]{version}[/bold]")
    return True


def _card_or_error(store: Store, version: ModelVersion) -> Card | StoreError:
    try:
        return store.card(version)
    except StoreError as error:
        return error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="a table of all models and versions")
    shown = commands.add_parser("show", help="the card of one model")
    shown.add_argument("model", help="name, for the newest version, or name@version")
    checked = commands.add_parser("verify", help="read models as the service would and say what is wrong with them")
    checked.add_argument("model", nargs="?", help="name or name@version; every version when left out")
    for command in commands.choices.values():
        command.add_argument(
            "--store",
            type=store_folder,
            default=store_folder(),
            metavar="DIR",
            help="the store's folder; without it LATENTD_STORE (now %(default)s)",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
