"""The forward passes of a model on a CUDA device. Rows come from the machine's memory, and outputs return to it.

The kernels are captured once for each shape of a batch, as a CUDA graph, and then replayed: the kernels of a small
network take longer to launch than to run. Rows travel through pinned memory on streams of their own. A batch of many
bytes is computed in two halves, so that the copies of one half overlap with the computation of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor

from model_store.families import Network

from .rows import Rows, concatenate, split
from .torch_runtime import Compute, ForwardPasses, torch_forward_passes

LIGHT_BYTES = 2**20  # of rows and outputs; to copy so few in one piece is faster than to launch two halves
WARM_UP_RUNS = 3  # in which libraries choose their kernels, which they may not do while a graph is captured

Shapes = tuple[torch.Size, ...]

log = structlog.get_logger()


class Streams(NamedTuple):
    """A device, the streams of copies beside the stream that computes, and the memory that graphs share.

    Graphs may share memory because they never run at the same time: two halves run in the order of their capture, and
    another batch begins when the last answer has been taken.
    """

    device: torch.device
    upload: torch.cuda.Stream
    download: torch.cuda.Stream
    memory: Any


def cuda_forward_passes(model: Network) -> ForwardPasses:
    """The forward passes of a model that is on its device, by name. Call them in one thread, on a stream that is not 0.

    Each pass has a memory pool of its own.
    """
    upload, download = torch.cuda.Stream(model.device), torch.cuda.Stream(model.device)
    return {
        name: GraphedPass(name, compute, Streams(model.device, upload, download, torch.cuda.graph_pool_handle()))
        for name, compute in torch_forward_passes(model).items()
    }


def launched_forward_passes(model: Network) -> ForwardPasses:
    """The forward passes of a model that is on its device, whose kernels are launched one by one."""

    def launched(compute: Compute) -> Compute:
        def launch(*rows: Tensor) -> Rows:
            return tuple(output.cpu() for output in compute(*(row.to(model.device) for row in rows)))

        return launch

    return {name: launched(compute) for name, compute in torch_forward_passes(model).items()}


class GraphedPass:
    """A forward pass, with the captured graphs of each shape of a batch that it has met."""

    def __init__(self, name: str, compute: Compute, streams: Streams) -> None:
        self._name = name
        self._compute = compute
        self._streams = streams
        self._graphs: dict[Shapes, Sequence[CapturedGraph]] = {}  # by the shapes of rows; empty where a capture failed
        self._has_failed = False  # a failed capture may leave its memory in a state of capture: do not try again

    def __call__(self, *rows: Tensor) -> Rows:
        """The outputs, in the machine's memory."""
        shapes = tuple(row.shape for row in rows)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(rows)
        graphs = self._graphs[shapes]
        if not graphs:
            return tuple(output.cpu() for output in self.launch(rows))
        for graph, part in zip(graphs, split(rows, len(rows[0]) // len(graphs)), strict=True):
            graph.start(part)
        return concatenate([graph.answer() for graph in graphs])

    def launch(self, rows: Rows) -> Rows:
        """Compute without a graph: the kernels are launched one by one, and the outputs stay on the device."""
        return self._compute(*(row.to(self._streams.device) for row in rows))

    def _capture(self, rows: Rows) -> Sequence[CapturedGraph]:
        """Capture one graph, or one for each half of a batch with many bytes; none if a capture has failed."""
        if self._has_failed:
            return []
        moved = sum(tensor.nbytes for tensor in (*rows, *self.launch(rows)))
        parts = 2 if moved > LIGHT_BYTES and len(rows[0]) % 2 == 0 else 1
        try:
            return [CapturedGraph(self._compute, part, self._streams) for part in split(rows, len(rows[0]) // parts)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning(
                "kernels are launched one by one", forward_pass=self._name, rows=len(rows[0]), reason=str(error)
            )
            self._has_failed = True
            return []


class CapturedGraph:
    """The kernels of a forward pass for one shape of a batch, with memory of their own for inputs and outputs."""

    def __init__(self, compute: Compute, rows: Rows, streams: Streams) -> None:
        self._streams = streams
        self._given = pinned_like(rows)
        self._inputs = tuple(row.to(streams.device) for row in rows)
        for _ in range(WARM_UP_RUNS):
            compute(*self._inputs)
        self._kernels = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._kernels, streams.memory, torch.cuda.current_stream(), "thread_local"):
            self._outputs = compute(*self._inputs)
        self._answers = pinned_like(self._outputs)
        self._arrived, self._computed, self._returned = map(torch.cuda.Event, (False,) * 3)

    def start(self, rows: Rows) -> None:
        """Begin to copy and compute the rows. The last answer must have been taken."""
        copy(rows, self._given)
        with torch.cuda.stream(self._streams.upload):
            copy(self._given, self._inputs)
            self._arrived.record()
        self._arrived.wait()
        self._kernels.replay()
        self._computed.record()
        with torch.cuda.stream(self._streams.download):
            self._computed.wait()
            copy(self._outputs, self._answers)
            self._returned.record()

    def answer(self) -> Rows:
        """Wait until the outputs are in the machine's memory, and return a copy of them."""
        self._returned.synchronize()
        return tuple(answer.clone() for answer in self._answers)


def pinned_like(rows: Rows) -> Rows:
    """New pinned memory with the shapes of the rows. With other memory, the processor would wait for each copy."""
    return tuple(torch.empty(row.shape, dtype=row.dtype, pin_memory=True) for row in rows)


def copy(sources: Rows, targets: Rows) -> None:
    """Copy rows into tensors of the same shapes. A copy from or to the GPU is only queued, on the current stream."""
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=True)
