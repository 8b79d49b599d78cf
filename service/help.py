"""Help: how `python -m service --help` shows the settings to a person."""

from __future__ import annotations

import argparse
from typing import Any


class HelpFormatter(argparse.HelpFormatter):
    """Names each value by the unit or the thing at the end of its flag, and leaves the flags out of the usage."""

    def add_usage(self, *arguments: Any) -> None:
        """One line; the flags are listed below it."""
        _usage, _actions, *rest = arguments
        super().add_usage("%(prog)s [flags]", (), *rest)

    def add_argument(self, action: argparse.Action) -> None:
        """`--max-images-per-request IMAGES`, where argparse would show the type in Python."""
        if isinstance(action.metavar, str) and not action.metavar.startswith("{"):
            word = action.dest.partition("_per_")[0].rpartition("_")[2]
            action.metavar = "SECONDS" if word == "s" else word.upper()
        super().add_argument(action)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        help_text = action.help or ""
        for empty in ("()", "None", ""):
            help_text = help_text.replace(f"(default: {empty})", "(default: none)")
        return help_text
