"""`python -m model_store`: list the models in a store, check them, choose the default one, and import others."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # before the imports below, which take seconds: Ctrl-C would show where they were
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` and `&` ask their child to ignore it
            signal.signal(number, lambda number, _: os._exit(128 + number))

import argparse
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from . import tables
from .card import Card
from .errors import StoreError
from .importing import command as importing
from .store import Store, store_folder
from .version import ModelVersion

FULL_WIDTH = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a fault in a model or the store, 2 for a wrong call."""
    options = argument_parser().parse_args(arguments)
    terminal = Console(highlight=False)
    # a pipe or a file gets a console that is so wide that no table is cut
    console = terminal if terminal.is_terminal else Console(highlight=False, width=FULL_WIDTH)
    store = Store(options.store)
    try:
        if options.command == "list":
            return list_models(store, console)
        if options.command == "show":
            return show(store, console, options.model)
        if options.command == "default":
            return default(store, console, options.model)
        if options.command == "import":
            return importing.run(store, console, options)
        return verify(store, console, options.model)
    except (StoreError, OSError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1


def list_models(store: Store, console: Console) -> int:
    """Print a table with a row for each version, and a line for each folder that looks like a version but is not."""
    cards: dict[ModelVersion, Card | StoreError] = {}
    for version in store.versions():
        try:
            cards[version] = store.card(version)
        except StoreError as error:
            cards[version] = error
    chosen = None
    with suppress(StoreError):  # a table without a default is better than no table
        chosen = store.resolve(store.default())
    if cards:
        console.print(tables.versions(cards, chosen))
    else:
        console.print(f"No models in {store.root}.", markup=False, soft_wrap=True)
    for path, reason in store.misplaced().items():
        console.print(f"{path}: {reason}", style="red", markup=False, soft_wrap=True)
    return 0


def show(store: Store, console: Console, reference: str) -> int:
    """Print the card of one model; only the recipe is left out."""
    version = store.resolve(reference)
    card = store.card(version)
    console.print(f"[bold]{version}[/bold]  {escape(str(store.folder(version)))}\n", soft_wrap=True)
    console.print(tables.facts(card))
    if card.metrics:
        console.print("", tables.metrics(card.metrics), sep="\n")
    return 0


def default(store: Store, console: Console, reference: str | None) -> int:
    """Choose the default model, or print which one it is."""
    if reference is not None:
        store.choose_default(reference)
    chosen = store.default()
    store.resolve(chosen)
    console.print(chosen, soft_wrap=True)
    return 0


def verify(store: Store, console: Console, reference: str | None) -> int:
    """Check the card, the hash and the tensors of one version or of all, as the service does before it serves them."""
    versions = [store.resolve(reference)] if reference else store.versions()
    sound = 0
    for version in versions:
        try:
            store.load(version)
        except StoreError as error:
            _print_fault(console, str(version), str(error))
            continue
        sound += 1
        console.print(f"[green]✓[/green] [bold]{version}[/bold]")
    misplaced = {} if reference else store.misplaced()
    for path, reason in misplaced.items():
        _print_fault(console, path, reason)
    expected = len(versions) + len(misplaced)
    console.print(f"sound versions: {sound} of {expected}")
    return 0 if sound == expected else 1


def _print_fault(console: Console, place: str, reason: str) -> None:
    console.print(f"[red]✗[/red] [bold]{escape(place)}[/bold]", end="  ")
    console.print(reason, markup=False, soft_wrap=True)


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the five commands; its help names the store in use."""
    parser = argparse.ArgumentParser(prog="python -m model_store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print a table of all models and versions")
    shown = commands.add_parser("show", help="print the card of one model")
    shown.add_argument("model", help="NAME for the newest version, or NAME@VERSION")
    checked = commands.add_parser("verify", help="check models as the service does before it serves them")
    checked.add_argument("model", nargs="?", help="NAME or NAME@VERSION; without it, all versions are checked")
    chosen = commands.add_parser("default", help="choose the model for requests that name no model, or print it")
    chosen.add_argument("model", nargs="?", help="NAME or NAME@VERSION; without it, the default model is printed")
    importing.add_arguments(commands.add_parser("import", help="publish the autoencoder of another program"))
    for command in commands.choices.values():
        command.add_argument(
            "--store",
            type=store_folder,
            default=store_folder(),
            metavar="DIR",
            help="folder of the store (default: LATENTD_STORE, else the models that ship; now %(default)s)",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
