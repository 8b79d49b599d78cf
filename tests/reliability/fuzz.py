"""`python -m tests.reliability.fuzz`: look for inputs that break the service.

Mutated bytes over sockets, Hypothesis on bodies, queries, headers, cards, weights and pictures, Schemathesis on the
OpenAPI description. The result is a section of docs/reliability.md; the exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from benchmarks import page
from benchmarks.machine import machine

from ..process import unharmed
from ..serving import PATIENT, serving
from .bytes_fuzz import fuzz
from .openapi_fuzz import KEY, conforms
from .properties import PROPERTIES, hold, open_subject


class Row(NamedTuple):
    """A kind of input, and its findings."""

    kind: str
    inputs: int
    seconds: float
    answers: str
    findings: list[str]

    def cells(self) -> list[str]:
        """The cells of the row in a table."""
        found = "; ".join(self.findings) or "none"
        return [self.kind, f"{self.inputs:,}", f"{self.seconds:,.0f}", self.answers, found]


def main() -> int:
    """Look for faults, print and write the result."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="latentd-fuzz-") as folder:
        rows = [sockets(Path(folder), options.inputs, options.seed, console)]
        with open_subject(Path(folder)) as subject:
            rows += [_held(prop, partial(hold, prop, subject, options.examples)) for prop in PROPERTIES]
        with serving(Path(folder) / "keyed", *PATIENT, LATENTD_API_KEYS=KEY) as process:
            rows.append(_held(conforms, partial(conforms, process.url, options.cases)))
    head = ("kind", "inputs", "seconds", "answers", "findings")
    asked = f"--inputs {options.inputs} --examples {options.examples} --cases {options.cases}"
    about = machine(f"python -m tests.reliability.fuzz {asked}")
    tables = [
        page.Table("The run", ("", ""), list(about.items())),
        page.Table("Inputs", head, [row.cells() for row in rows]),
    ]
    page.show(tables, console)
    if options.out:
        page.write("Fuzzing", tables, options.out)
    return 1 if any(row.findings for row in rows) else 0


def sockets(folder: Path, inputs: int, seed: int, console: Console) -> Row:
    """Send mutated requests to a process with short deadlines, which must be unharmed afterwards."""
    with serving(folder / "sockets") as process, Progress(console=console) as progress:
        task = progress.add_task("bytes over sockets", total=inputs)
        began = time.perf_counter()
        host, port = process.address
        findings = fuzz(host, port, inputs, seed, lambda: progress.advance(task))
        seconds = time.perf_counter() - began
        left = unharmed(process)
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(findings.statuses.items()))
    bugs = [f"{what}: {content[:200]!r}" for what, content in findings.bugs]
    return Row("Bytes over sockets", inputs, seconds, f"{statuses}, closed: {findings.closed:,}", bugs + left)


def _held(prop: Callable[..., object], search: Callable[[], int]) -> Row:
    """The row of a property; an input that breaks it is a finding, and does not stop the search."""
    began, findings, inputs = time.perf_counter(), [], 0
    try:
        inputs = search()
    except (Exception, BaseExceptionGroup) as error:
        findings = [f"{prop.__name__}: {str(error)[:300]}"]
    return Row((prop.__doc__ or "").splitlines()[0].rstrip("."), inputs, time.perf_counter() - began, "–", findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="mutated requests over sockets (%(default)s)")
    parser.add_argument("--examples", type=int, default=5_000, help="examples of each property (%(default)s)")
    parser.add_argument(
        "--cases", type=int, default=500, help="valid and invalid cases of each operation (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations (%(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page that gets the section, such as docs/reliability.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
