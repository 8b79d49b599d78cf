"""The flags that commands share, and their values: each other function reads one text of the command line."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from model_store import store_folder

from .sources.download import DEFAULT_CACHE


def path_argument(text: str) -> Path:
    """The path that a flag names.

    Raises:
        ArgumentTypeError: the text is empty, as after `--data $UNSET`; `Path("")` would be the current folder.
    """
    if not text:
        raise ArgumentTypeError("the path is empty; name one, or leave the flag out")
    return Path(text)


def at_least_one(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def hours_argument(text: str) -> float:
    """Read a number of hours above 0, such as 0.5.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise ArgumentTypeError(f"{text} is not a number of hours above 0, such as 0.5")
    return hours


def add_places_and_device(parser: ArgumentParser, *, store: str) -> None:
    """Add --store, --device and --cache, as commands for a stored model have them; `store` says what the store is."""
    parser.add_argument(
        "--store",
        type=store_folder,
        default=store_folder(),
        metavar="DIR",
        help=f"{store}; default: LATENTD_STORE, now %(default)s",
    )
    parser.add_argument(
        "--device", default="auto", help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N; default: auto"
    )
    parser.add_argument(
        "--cache",
        type=path_argument,
        default=DEFAULT_CACHE,
        metavar="DIR",
        help="the folder to keep downloads in; default: %(default)s",
    )
