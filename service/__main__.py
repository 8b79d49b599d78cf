"""`python -m service`: serve the models of a store over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp

from model_store import Store, StoreError

from . import logs
from .app import create_app
from .server import Server
from .settings import Settings

EXIT_BAD_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; the exit status is 2 when the settings are wrong."""
    try:
        settings = read_settings(list(sys.argv[1:] if arguments is None else arguments), os.environ)
        Store(settings.store).versions()
        logs.configure(settings)
        app = create_app(settings)
    except (ValueError, StoreError) as error:
        print(f"Cannot serve: {error}", file=sys.stderr)
        return EXIT_BAD_SETTINGS
    Server(app, settings).run()
    return 0


def read_settings(arguments: list[str], environment: Mapping[str, str]) -> Settings:
    """The settings of flags and environment.

    Raises:
        ValueError: one of them is wrong; the message has one line.
    """
    known = {f"LATENTD_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in environment if name.upper().startswith("LATENTD_") and name.upper() not in known)
    if unknown:
        raise ValueError(f"there is no setting {', '.join(unknown)}; python -m service --help lists them")
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(_line(problem["loc"], problem["msg"]) for problem in problems)) from error


def _line(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, place))
    return f"{name}: {message}" if name else message


if __name__ == "__main__":
    raise SystemExit(main())
