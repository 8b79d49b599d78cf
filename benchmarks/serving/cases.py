"""The cases: a network, an operation and a number of connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

IMAGES_PER_BATCH = 64
BATCH_CONNECTIONS = 4  # enough to keep two processes busy
LOADS = (1, 16, 64)


class Operation(StrEnum):
    """The operation of a request. A batch is npy in and npy out, with `IMAGES_PER_BATCH` images."""

    ENCODE = "encode"  # one PNG → JSON latents
    SAMPLE = "sample"  # → one PNG
    BATCH_ENCODE = "batch-encode"  # pixels → latents
    BATCH_DECODE = "batch-decode"  # latents → pixels
    BATCH_RECONSTRUCT = "batch-reconstruct"  # pixels → pixels

    @property
    def images(self) -> int:
        """The number of images in one request."""
        return IMAGES_PER_BATCH if self in BATCHES else 1


BATCHES = (Operation.BATCH_ENCODE, Operation.BATCH_DECODE, Operation.BATCH_RECONSTRUCT)


@dataclass(frozen=True, order=True)
class Case:
    """One cell for every server: a network (`mnist` is A, `photo` is B), an operation and a number of connections."""

    network: str
    operation: Operation
    connections: int

    @property
    def name(self) -> str:
        """The name on the command line and in the tables: `mnist-encode-c16`."""
        return f"{self.network}-{self.operation}-c{self.connections}"


SINGLES = tuple(
    Case(network, operation, connections)
    for network in ("mnist", "photo")
    for operation in (Operation.ENCODE, Operation.SAMPLE)
    for connections in LOADS
)
BATCHED = tuple(Case("mnist", operation, BATCH_CONNECTIONS) for operation in BATCHES)
EVERY = SINGLES + BATCHED
QUICK = (
    Case("mnist", Operation.ENCODE, 16),
    Case("mnist", Operation.SAMPLE, 64),
    Case("mnist", Operation.BATCH_ENCODE, BATCH_CONNECTIONS),
)


def named(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases with these names. A name may be the beginning of several, such as `mnist` or `photo-sample`.

    Raises:
        ValueError: no case has a name that begins so.
    """
    found = {name: [case for case in EVERY if case.name == name or case.name.startswith(f"{name}-")] for name in names}
    if unknown := [name for name, there in found.items() if not there]:
        raise ValueError(
            f"No case is called {', '.join(unknown)}; the cases are {', '.join(case.name for case in EVERY)}."
        )
    return tuple(case for case in EVERY if any(case in there for there in found.values()))
