"""The values of the commands' flags: each function reads one text of the command line."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path


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
