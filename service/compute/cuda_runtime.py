"""The operations of a model on a CUDA device, from the machine's memory and back into it.

Kernels are recorded once for each batch size, as a CUDA graph, and then replayed: a small network's take longer to
launch than to run. Rows travel through pinned memory on streams of their own; a batch of many bytes goes in two halves,
so that the copies of one hide behind the computation of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor

from model_store.vae import VAE

from .rows import Rows, concatenate, split
from .torch_runtime import Compute, ForwardPasses, torch_forward_passes

LIGHT_BYTES = 2**20  # of rows and outputs; to copy so few takes less time than two launches
WARM_UP_RUNS = 3  # in which libraries choose their kernels, which they may not do while these are recorded

log = structlog.get_logger()


class Streams(NamedTuple):
    """A device, the streams on which copies go beside the one that computes, and memory that recordings share.

    They may share it because they never run at the same time: two halves run in the order in which they were recorded,
    and all else begins when the last answer has been taken.
    """

    device: torch.device
    there: torch.cuda.Stream
    back: torch.cuda.Stream
    memory: Any


def cuda_forward_passes(model: VAE) -> ForwardPasses:
    """Every operation of a model that is on its device, by its name; for one thread, and one stream other than 0."""
    device = model.device
    streams = (torch.cuda.Stream(device), torch.cuda.Stream(device))
    return {
        name: GraphedPass(name, compute, Streams(device, *streams, torch.cuda.graph_pool_handle()))
        for name, compute in torch_forward_passes(model).items()
    }


class GraphedPass:
    """One operation, with the recordings of each batch size that it has met."""

    def __init__(self, name: str, compute: Compute, streams: Streams) -> None:
        self._name = name
        self._compute = compute
        self._streams = streams
        self._graphs: dict[int, Sequence[CapturedGraph]] = {}  # by rows; none where it failed
        self._has_failed = False  # then its memory may be left as if it were being recorded, and it is not tried again

    def __call__(self, *rows: Tensor) -> Rows:
        """The operation's outputs, in the machine's memory."""
        count = len(rows[0])
        if count not in self._graphs:
            self._graphs[count] = self._capture(rows)
        recordings = self._graphs[count]
        if not recordings:
            return tuple(output.cpu() for output in self._launch(rows))
        for recording, part in zip(recordings, split(rows, count // len(recordings)), strict=True):
            recording.start(part)
        return concatenate([recording.answer() for recording in recordings])

    def _launch(self, rows: Rows) -> Rows:
        """Kernel by kernel; what it gives is on the device."""
        return self._compute(*(row.to(self._streams.device) for row in rows))

    def _capture(self, rows: Rows) -> Sequence[CapturedGraph]:
        """For a batch that is light or odd one recording, else one for each half; none if one has failed."""
        if self._has_failed:
            return []
        moved = sum(tensor.nbytes for tensor in (*rows, *self._launch(rows)))
        parts = 2 if moved > LIGHT_BYTES and len(rows[0]) % 2 == 0 else 1
        try:
            return [CapturedGraph(self._compute, part, self._streams) for part in split(rows, len(rows[0]) // parts)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("kernels are launched one by one", operation=self._name, rows=len(rows[0]), reason=str(error))
            self._has_failed = True
            return []


class CapturedGraph:
    """The kernels of an operation for one number of rows, with memory of their own for inputs and outputs."""

    def __init__(self, compute: Compute, rows: Rows, streams: Streams) -> None:
        self._streams = streams
        self._given = tuple(_pinned(row) for row in rows)
        self._inputs = tuple(row.to(streams.device) for row in rows)
        for _ in range(WARM_UP_RUNS):
            compute(*self._inputs)
        self._kernels = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._kernels, streams.memory, torch.cuda.current_stream(), "thread_local"):
            self._outputs = compute(*self._inputs)
        self._answers = tuple(_pinned(output) for output in self._outputs)
        self._arrived, self._computed, self._returned = map(torch.cuda.Event, (False,) * 3)

    def start(self, rows: Rows) -> None:
        """Send rows on their way; the last answer must have been taken."""
        for given, row in zip(self._given, rows, strict=True):
            given.copy_(row)
        with torch.cuda.stream(self._streams.there):
            _copy(self._given, self._inputs)
            self._arrived.record()
        self._arrived.wait()
        self._kernels.replay()
        self._computed.record()
        with torch.cuda.stream(self._streams.back):
            self._computed.wait()
            _copy(self._outputs, self._answers)
            self._returned.record()

    def answer(self) -> Rows:
        """The outputs, when they are back."""
        self._returned.synchronize()
        return tuple(answer.clone() for answer in self._answers)


def _copy(sources: Rows, targets: Rows) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=True)


def _pinned(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
