"""`python -m benchmarks.serving`: our service beside its peers, in one interleaved run."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from .. import page
from ..machine import machine
from . import cases, growth, load, report, rounds
from .load import NoClient
from .results import Results
from .rounds import Plan
from .servers import LATENTD, SERVERS, Server

EXIT_CANNOT, EXIT_INTERRUPTED = 2, 130
QUICK_PEERS = ("naive", "mosec")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them to `--out`. The exit status is 2 if nothing can be measured."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    console = Console(soft_wrap=True)
    try:
        load.find()
        plan = _plan(options)
    except (NoClient, ValueError) as error:
        print(f"Cannot measure: {error}", file=sys.stderr)
        return EXIT_CANNOT
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM ends the servers too
    results = _described(plan, asked(given))
    is_whole = _measure(plan, options, results, console)
    page.show(report.tables(results), console)
    if not is_whole:
        console.print("Interrupted; the tables have what was measured so far, and no page is written.")
        return EXIT_INTERRUPTED
    _write(options, results, console)
    return 0


def asked(arguments: Sequence[str]) -> str:
    """The command, for a table. Paths are cut to their last part: readers have other folders."""
    told = (Path(argument).name if "/" in argument else argument for argument in arguments)
    return " ".join(["python -m benchmarks.serving", *told])


def _plan(options: argparse.Namespace) -> Plan:
    chosen = cases.QUICK if options.quick and not options.cases else cases.EVERY
    chosen = cases.named(options.cases) if options.cases else chosen
    seconds = options.seconds or (2.0 if options.quick else 5.0)
    return Plan(chosen, _servers(options), seconds, options.rounds or (2 if options.quick else 3))


def _servers(options: argparse.Namespace) -> tuple[Server, ...]:
    """Our service and the chosen peers.

    Raises:
        ValueError: no peer has that name.
    """
    every = [server.name for server in SERVERS if server is not LATENTD]
    chosen = options.peers if options.peers is not None else QUICK_PEERS if options.quick else every
    if unknown := sorted(set(chosen) - set(every)):
        raise ValueError(f"no peer is called {', '.join(unknown)}; the peers are {', '.join(every)}")
    return tuple(server for server in SERVERS if server is LATENTD or server.name in chosen)


def _described(plan: Plan, command: str) -> Results:
    peers = tuple(server.name for server in plan.servers if server.batches and not server.is_ours)
    settings = {server.name: (server.version(), server.described()) for server in plan.servers}
    return Results(machine=machine(command) | {"client": load.described()}, settings=settings, batching=peers)


def _measure(plan: Plan, options: argparse.Namespace, results: Results, console: Console) -> bool:
    """Measure into `results`, and return whether the run was completed. An interrupted run keeps its measurements."""
    torch.set_num_threads(1)  # this process only prepares requests
    with tempfile.TemporaryDirectory(prefix="latentd-bench-") as folder:
        scratch = Path(folder)
        try:
            networks = dict.fromkeys(case.network for case in plan.cases)
            shelves = [rounds.shelve(scratch / "stores" / network, network, options.data) for network in networks]
            rounds.run(plan, shelves, scratch, results, console.print)
            if _wants_growth(options):
                growth.measure(plan.servers, plan.seconds, scratch / "growth", results, console.print)
        except KeyboardInterrupt:
            return False
    return True


def _wants_growth(options: argparse.Namespace) -> bool:
    return bool(options.growth if options.growth is not None else not (options.quick or options.cases))


def _write(options: argparse.Namespace, results: Results, console: Console) -> None:
    """Write the page, its figures and all measurements as JSON, as far as the options ask for them."""
    out = options.out or (None if options.quick or options.cases else page.DOCS)
    if out is None:
        return
    page.write("Serving", report.tables(results), out, growth.draw(results, out.parent / "figures"))
    out.with_suffix(".json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    console.print(f"Written to {out}, and every single measurement to {out.with_suffix('.json').name} beside it.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three cases, two peers, about two minutes; no page")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="names of cases, or how they begin: mnist-encode")
    parser.add_argument(
        "--peers", nargs="*", metavar="NAME", help=", ".join(s.name for s in SERVERS if s is not LATENTD)
    )
    parser.add_argument("--seconds", type=float, help="seconds of each visit (5; quick: 2)")
    parser.add_argument("--rounds", type=int, help="how often every server is started and visited (3; quick: 2)")
    parser.add_argument(
        "--growth", action=argparse.BooleanOptionalAction, help="also measure how the cost grows (on in a full run)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="MNIST's files; without them, pictures are drawn")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (docs/benchmarks.md in a full run)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
