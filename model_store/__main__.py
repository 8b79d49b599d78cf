"""`python -m model_store`: list, check, import, copy and delete the models in a store, and name them by aliases."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # before the imports below, which take seconds: Ctrl-C would show where they were
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` and `&` ask their child to ignore it
            signal.signal(number, lambda number, _: os._exit(128 + number))

    from .waiting_threads import let_waiting_threads_sleep

    let_waiting_threads_sleep()

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape

from . import tables
from .aliases import Aliases
from .card import Card
from .document import describe
from .errors import CannotDelete, InvalidAlias, StoreError
from .importing import command as importing
from .store import Store, store_folder
from .version import ModelVersion, check_name, parse_reference

FULL_WIDTH = 10_000

_ANY = "NAME for the newest version, NAME@VERSION or NAME@ALIAS"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a fault in a model or the store, 2 for a wrong call."""
    options = argument_parser().parse_args(arguments)
    terminal = Console(highlight=False)
    # a pipe or a file gets a console that is so wide that no table is cut
    console = terminal if terminal.is_terminal else Console(highlight=False, width=FULL_WIDTH)
    store = Store(options.store)
    try:
        return int(options.run(store, console, options))
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
    aliases, faults = store.aliases()
    marks = {
        version: [f"@{alias}" for alias in aliases.get(version.name, Aliases()).naming(version.number)]
        for version in cards
    }
    with suppress(StoreError):  # a table without a default is better than no table
        marks.setdefault(store.resolve(store.default()), []).insert(0, "default")
    if cards:
        console.print(tables.versions(cards, marks))
    else:
        console.print(f"No models in {store.root}.", markup=False, soft_wrap=True)
    for fault in [*faults.values(), *(f"{path}: {reason}" for path, reason in store.misplaced().items())]:
        console.print(str(fault), style="red", markup=False, soft_wrap=True)
    return 0


def list_as_json(store: Store) -> int:
    """Print the versions, and the folders that look like versions and are not, as one JSON document."""
    print(json.dumps(describe(store), indent=2))
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
    unusable = {} if reference else store.aliases()[1]
    for name, fault in unusable.items():
        _print_fault(console, f"the aliases of {name}", str(fault))
    expected = len(versions) + len(misplaced)
    console.print(f"sound versions: {sound} of {expected}")
    return 0 if sound == expected and not unusable else 1


def copy(store: Store, console: Console, reference: str, target: Path, name: str | None) -> int:
    """Copy a version into another store, and print its new name there."""
    with _interruptible():
        copied = store.copy(store.resolve(reference), Store(target), name)
    console.print(str(copied), soft_wrap=True)
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """In this block SIGINT and SIGTERM raise an exception, so that a half copy is removed before the command ends."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    caught = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def delete(store: Store, console: Console, reference: str, *, force: bool) -> int:
    """Print what would be lost with a version, and delete the version unless an alias or the default names it."""
    _, number = parse_reference(reference)
    if not isinstance(number, int):
        remedy = "To remove an alias: python -m model_store alias --remove NAME@ALIAS"
        raise CannotDelete(reference, "only a version with its number is, as in mnist@1", remedy)
    version = store.resolve(reference)
    for consequence in store.consequences(version):
        console.print(f"Without {version}: {consequence}", markup=False, soft_wrap=True)
    store.delete(version, force=force)
    console.print(f"{version} is deleted.", soft_wrap=True)
    return 0


def list_aliases(store: Store, console: Console, name: str | None) -> int:
    """Print each alias with its version and the versions before; aliases that cannot be read are a fault."""
    if name is None:
        found, faults = store.aliases()
    else:
        found, faults = {check_name(name): store.aliases_of(name)}, {}
        if not found[name].aliases:
            store.resolve(name)  # a mistyped name is an error
    lines = [_alias_line(store, model, alias) for model in found for alias in sorted(found[model].aliases)]
    if not faults and not lines:
        lines = [f"No aliases{f' of {name}' if name else ''}."]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    for model, fault in faults.items():
        _print_fault(console, f"the aliases of {model}", str(fault))
    return 1 if faults else 0


def set_alias(store: Store, console: Console, reference: str, alias: str) -> int:
    """Let an alias name a version."""
    version = store.resolve(reference)
    store.set_alias(version, alias)
    console.print(_alias_line(store, version.name, alias), markup=False, soft_wrap=True)
    return 0


def remove_alias(store: Store, console: Console, reference: str) -> int:
    """Remove an alias; its version stays. A default model that is the alias is missing then."""
    store.remove_alias(*_parse_alias(reference))
    console.print(f"{reference} is removed.", soft_wrap=True)
    with suppress(StoreError):  # a store without a default loses none
        if store.default() == reference:
            console.print(
                "It was the default model. Choose another: python -m model_store default NAME.", soft_wrap=True
            )
    return 0


def promote(store: Store, console: Console, reference: str, number: str | None) -> int:
    """Let an alias that is there name the newest version, or another one."""
    name, alias = _parse_alias(reference)
    store.alias_history(name, alias)
    store.set_alias(store.resolve(name if number is None else f"{name}@{number}"), alias)
    console.print(_alias_line(store, name, alias), markup=False, soft_wrap=True)
    return 0


def roll_back(store: Store, console: Console, reference: str) -> int:
    """Let an alias name the version that it named before."""
    name, alias = _parse_alias(reference)
    store.roll_back(name, alias)
    console.print(_alias_line(store, name, alias), markup=False, soft_wrap=True)
    return 0


def _alias_line(store: Store, name: str, alias: str) -> str:
    """An alias with its version, and the last five versions that it named before."""
    *earlier, version = store.alias_history(name, alias)
    missing = "" if version in store.versions(name) else ", which is not in the store"
    before = f"; before: {', '.join(map(str, reversed(earlier[-5:])))}" if earlier else ""
    return f"{name}@{alias} means {version}{missing}{before}"


def _parse_alias(reference: str) -> tuple[str, str]:
    """The name of the model and the alias in `name@alias`."""
    name, alias = parse_reference(reference)
    if not isinstance(alias, str):
        raise InvalidAlias(reference)
    return name, alias


def _print_fault(console: Console, place: str, reason: str) -> None:
    console.print(f"[red]✗[/red] [bold]{escape(place)}[/bold]", end="  ")
    console.print(reason, markup=False, soft_wrap=True)


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the commands; its help names the store in use."""
    parser = argparse.ArgumentParser(prog="python -m model_store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_readers(commands)
    _add_writers(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--store",
            type=store_folder,
            default=store_folder(),
            metavar="DIR",
            help="folder of the store (default: LATENTD_STORE, else the models that ship; now %(default)s)",
        )
    return parser


def _add_readers(commands: Commands) -> None:
    """Add the commands that read the store; `default` chooses the default model too."""
    listed = commands.add_parser("list", help="print a table of all models and versions")
    listed.add_argument("--json", action="store_true", help="print one JSON document for programs")
    listed.set_defaults(run=lambda store, console, o: list_as_json(store) if o.json else list_models(store, console))
    shown = commands.add_parser("show", help="print the card of one model")
    shown.add_argument("model", help=_ANY)
    shown.set_defaults(run=lambda store, console, o: show(store, console, o.model))
    checked = commands.add_parser("verify", help="check models as the service does before it serves them")
    checked.add_argument("model", nargs="?", help=f"{_ANY}; without it, all versions are checked")
    checked.set_defaults(run=lambda store, console, o: verify(store, console, o.model))
    chosen = commands.add_parser("default", help="choose the model for requests that name no model, or print it")
    chosen.add_argument("model", nargs="?", help=f"{_ANY}; without it, the default model is printed")
    chosen.set_defaults(run=lambda store, console, o: default(store, console, o.model))


def _add_writers(commands: Commands) -> None:
    """Add the commands that change the store."""
    imported = commands.add_parser("import", help="publish the autoencoder of another program")
    importing.add_arguments(imported)
    imported.set_defaults(run=importing.run)
    copied = commands.add_parser("copy", help="copy a version into another store, and print its name there")
    copied.add_argument("model", help=_ANY)
    copied.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the store; made if missing")
    copied.add_argument("--as", dest="name", metavar="NAME", help="name of the model there (default: its name here)")
    copied.set_defaults(run=lambda store, console, o: copy(store, console, o.model, o.to, o.name))
    deleted = commands.add_parser("delete", help="delete a version for good; its number is not given again")
    deleted.add_argument("model", metavar="NAME@VERSION", help="the version")
    deleted.add_argument(
        "--force", action="store_true", help="even if aliases, which are removed, or the default model name it"
    )
    deleted.set_defaults(run=lambda store, console, o: delete(store, console, o.model, force=o.force))
    named = commands.add_parser("alias", help="name a version by an alias, such as mnist@stable; or list the aliases")
    named.add_argument("model", nargs="?", help=f"{_ANY}; alone: NAME, whose aliases are listed")
    named.add_argument("alias", nargs="?", help="the alias, which is made or moved, such as stable")
    named.add_argument("--remove", metavar="NAME@ALIAS", help="remove this alias; its version stays")
    named.set_defaults(run=_alias)
    promoted = commands.add_parser("promote", help="let an alias name the newest version")
    promoted.add_argument("alias", metavar="NAME@ALIAS", help="an alias that is there")
    promoted.add_argument(
        "number", nargs="?", metavar="VERSION", help="number of another version (default: the newest)"
    )
    promoted.set_defaults(run=lambda store, console, o: promote(store, console, o.alias, o.number))
    returned = commands.add_parser("rollback", help="let an alias name the version that it named before")
    returned.add_argument("alias", metavar="NAME@ALIAS", help="an alias that is there")
    returned.set_defaults(run=lambda store, console, o: roll_back(store, console, o.alias))


def _alias(store: Store, console: Console, options: argparse.Namespace) -> int:
    if options.remove is not None:
        return remove_alias(store, console, options.remove)
    if options.alias is not None:
        return set_alias(store, console, options.model, options.alias)
    return list_aliases(store, console, options.model)


if __name__ == "__main__":
    raise SystemExit(main())
