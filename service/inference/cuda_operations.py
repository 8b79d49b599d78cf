"""The operations of a model on a CUDA device, from the machine's memory and back into it.

Kernels are recorded once for each batch size, as a CUDA graph, and then replayed: a small network's take longer to
launch than to run. Rows travel through pinned memory on streams of their own; a batch of many bytes goes in two halves,
so that the copies of one hide behind the computation of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor

from model_store.vae import VAE

from .operations import Inputs, Operations, Outputs, torch_operations

LIGHT_BYTES = 2**20  # of rows and outputs; to copy so few takes less time than two launches
TRIALS = 3  # in which libraries choose their kernels, which they may not do while these are recorded

Operation = Callable[..., Outputs]

log = structlog.get_logger()


class Place(NamedTuple):
    """A device, the streams on which copies go beside the one that computes, and memory that recordings share.

    They may share it because they never run at the same time: two halves run in the order in which they were recorded,
    and all else begins when the last answer has been taken.
    """

    device: torch.device
    there: torch.cuda.Stream
    back: torch.cuda.Stream
    memory: Any


def cuda_operations(model: VAE) -> Operations:
    """Every operation of a model that is on its device, by its name; for one thread, and one stream other than 0."""
    device = next(model.parameters()).device
    streams = (torch.cuda.Stream(device), torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch's own
    return {
        name: Replayed(name, operation, Place(device, *streams, torch.cuda.graph_pool_handle()))
        for name, operation in torch_operations(model).items()
    }


class Replayed:
    """One operation, with the recordings of each batch size that it has met."""

    def __init__(self, name: str, operation: Operation, place: Place) -> None:
        self._name = name
        self._operation = operation
        self._place = place
        self._recordings: dict[int, Sequence[Recording]] = {}  # by rows; none where it failed
        self._has_failed = False  # then its memory may be left as if it were being recorded, and it is not tried again

    def __call__(self, *rows: Tensor) -> Outputs:
        """The operation's outputs, in the machine's memory."""
        count = len(rows[0])
        if count not in self._recordings:
            self._recordings[count] = self._record(rows)
        recordings = self._recordings[count]
        if not recordings:
            return tuple(output.cpu() for output in self._launch(rows))
        for recording, part in zip(recordings, _split(rows, len(recordings)), strict=True):
            recording.start(part)
        answers = [recording.answer() for recording in recordings]
        return answers[0] if len(answers) == 1 else tuple(map(torch.cat, zip(*answers, strict=True)))

    def _launch(self, rows: Inputs) -> Outputs:
        """Kernel by kernel; what it gives is on the device."""
        return self._operation(*(row.to(self._place.device) for row in rows))

    def _record(self, rows: Inputs) -> Sequence[Recording]:
        """For a batch that is light or odd one recording, else one for each half; none if one has failed."""
        if self._has_failed:
            return []
        moved = sum(tensor.nbytes for tensor in (*rows, *self._launch(rows)))
        parts = 2 if moved > LIGHT_BYTES and len(rows[0]) % 2 == 0 else 1
        try:
            return [Recording(self._operation, part, self._place) for part in _split(rows, parts)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("kernels are launched one by one", operation=self._name, rows=len(rows[0]), reason=str(error))
            self._has_failed = True
            return []


class Recording:
    """The kernels of an operation on so many rows, with places of their own for what goes in and comes out."""

    def __init__(self, operation: Operation, rows: Inputs, place: Place) -> None:
        self._place = place
        self._given = tuple(_pinned(row) for row in rows)
        self._inputs = tuple(row.to(place.device) for row in rows)
        for _ in range(TRIALS):
            operation(*self._inputs)
        self._kernels = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._kernels, place.memory, torch.cuda.current_stream(), "thread_local"):
            self._outputs = operation(*self._inputs)
        self._answers = tuple(_pinned(output) for output in self._outputs)
        self._arrived, self._computed, self._returned = map(torch.cuda.Event, (False,) * 3)

    def start(self, rows: Inputs) -> None:
        """Send rows on their way; the last answer must have been taken."""
        for given, row in zip(self._given, rows, strict=True):
            given.copy_(row)
        with torch.cuda.stream(self._place.there):
            _copy(self._given, self._inputs)
            self._arrived.record()
        self._arrived.wait()
        self._kernels.replay()
        self._computed.record()
        with torch.cuda.stream(self._place.back):
            self._computed.wait()
            _copy(self._outputs, self._answers)
            self._returned.record()

    def answer(self) -> Outputs:
        """The outputs, when they are back."""
        self._returned.synchronize()
        return tuple(answer.clone() for answer in self._answers)


def _copy(sources: Outputs, targets: Outputs) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=True)


def _pinned(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def _split(rows: Inputs, parts: int) -> Sequence[Inputs]:
    return list(zip(*(row.chunk(parts) for row in rows), strict=True))
