"""`python -m service`: serve the models of a store over HTTP."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect no garbage in this block, and exclude the objects made in it from later collections."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def open_standard_streams() -> None:
    """Open the standard streams that are closed: the next file or socket would take the number of such a stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":  # the imports below take seconds: process 1 of a container would ignore SIGTERM
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` turns it off
            signal.signal(number, lambda number, _: os._exit(128 + number))
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # other programs open their log again, or tell their state
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the parent process may have blocked some
    open_standard_streams()

    from model_store.waiting_threads import let_waiting_threads_sleep

    let_waiting_threads_sleep()

# Modules stay until the end. To check them again and again while they were imported took a sixth of the start.
with collection_paused():
    import argparse
    import re
    import resource
    from collections.abc import Sequence
    from functools import partial
    from typing import Any

    from pydantic import ValidationError
    from pydantic_settings import CliApp, CliSettingsSource, SettingsError

    from model_store import Store, StoreError
    from model_store.vae.record import validation_messages
    from model_store.vae.sentences import did_you_mean

    from .app import prepare_app
    from .listening import workers
    from .listening.bounds import Bounds, Shutdown
    from .listening.server import PortSlot, Server
    from .listening.shared_port import CannotListen, SharedPort, bind
    from .settings import Settings
    from .telemetry import logs

EXIT_BAD_SETTINGS = 2

_SERVICE_LINK = re.compile(r"LATENTD_(SERVICE_|PORT_\d+_)")  # what Kubernetes sets for a Service named latentd


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; the exit status is 2 when the settings are wrong."""
    try:
        settings = read_settings(list(sys.argv[1:] if arguments is None else arguments))
        Store(settings.store).versions()
        logs.configure(settings.log_level, settings.log_format)
        raise_descriptor_limit()
        bounds = Bounds(
            settings.max_head_bytes, settings.head_timeout_s, settings.body_timeout_s, settings.idle_timeout_s
        )
        create_server = partial(Server, bounds=bounds, shutdown=Shutdown(settings.drain_s, settings.timeout_s))
        port = bind(settings.host, settings.port)
        if settings.workers > 1:
            workers.serve(port, settings.workers, settings.hang_s, partial(prepare_app, settings), create_server)
            return 0
        server = create_server(prepare_app(settings), PortSlot(0, SharedPort(port, workers=1)))
    except (ValueError, StoreError, CannotListen, OSError) as error:
        print(f"Cannot serve: {error}", file=logs.LogStream(sys.stderr))  # it does not wait for a reader
        return EXIT_BAD_SETTINGS
    server.run()
    return 0


def read_settings(arguments: list[str]) -> Settings:
    """The settings that flags and environment give.

    Raises:
        ValueError: one of them is wrong; the message has one line.
    """
    known = {f"LATENTD_{name.upper()}" for name in Settings.model_fields}
    named = {name.upper() for name in os.environ if name.upper().startswith("LATENTD_")}
    if unknown := sorted(name for name in named - known if not _SERVICE_LINK.match(name)):
        guess = did_you_mean(unknown[0], known) or ";"
        raise ValueError(f"there is no setting {', '.join(unknown)}{guess} python -m service --help lists all")
    try:
        flags: CliSettingsSource[Any] = CliSettingsSource(Settings, formatter_class=HelpFormatter)
        return CliApp.run(Settings, cli_args=arguments, cli_settings_source=flags)
    except SettingsError as error:
        raise ValueError(explain_flag_error(str(error))) from error
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error, Settings))) from error


def explain_flag_error(said: str) -> str:
    """argparse's message about a flag, with a remedy. The value of an unknown flag is left out: it may be a secret."""
    if "unrecognized arguments" not in said:
        return f"{said.rpartition('error parsing CLI: ')[2]}; python -m service --help lists all flags"
    words = said.partition("unrecognized arguments: ")[2].split()
    unknown = next((word.partition("=")[0] for word in words if word.startswith("-")), "")
    known = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
    found = f"there is no flag {unknown}" if unknown else "each value needs a flag before it"
    return f"{found}{did_you_mean(unknown, known) or ';'} python -m service --help lists all flags"


class HelpFormatter(argparse.HelpFormatter):
    """Formats `--help`: names each value by the noun or unit that ends its flag, and keeps the usage short."""

    def add_usage(self, *arguments: Any) -> None:
        """Show `[flags]` in the usage: the list below it names them all."""
        _usage, _actions, *rest = arguments
        super().add_usage("%(prog)s [flags]", (), *rest)

    def add_argument(self, action: argparse.Action) -> None:
        """Show `--max-images-per-request IMAGES`, where pydantic-settings would show the Python type."""
        if isinstance(action.metavar, str) and not action.metavar.startswith("{"):
            word = action.dest.partition("_per_")[0].rpartition("_")[2]
            action.metavar = "SECONDS" if word == "s" else word.upper()
        super().add_argument(action)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        help_text = action.help or ""
        for empty in ("()", "None", ""):
            help_text = help_text.replace(f"(default: {empty})", "(default: none)")
        return help_text


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files, often 1024, to the hard limit: each connection takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems refuse their own hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    exit_status = main()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_status)  # at once, since a thread may still compute: torch aborts if Python stops such a thread
