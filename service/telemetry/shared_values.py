"""The numbers of the metrics of several processes, in memory that they share.

prometheus_client shares numbers through files. There, a full disk ends a process (SIGBUS), the files of a process that
is killed stay behind, and each process that has ended leaves files that all later answers read. The memory here needs
no file, and a process that replaces another one continues its numbers.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

SLOT_BYTES = 256  # of one number: the number itself, the length of its name, and its name
SLOTS = 16_384  # of one process. The system gives memory only to slots that have been used.
_NAME = 16  # where the name begins in its slot
_STEP = SLOT_BYTES // 8  # from the number of one slot to the number of the next one

log = structlog.get_logger()


class Series(NamedTuple):
    """The series of a number: the kind and the name of its metric, its own name, and its labels."""

    kind: str
    metric: str
    name: str
    labels: dict[str, str]


class SharedValues:
    """A table of numbers by name for each process. A process writes into its own table, and reads all of them.

    Made before the processes are forked. The process that makes it has table 0.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._memory = mmap.mmap(-1, processes * SLOTS * SLOT_BYTES)
        view = memoryview(self._memory)
        self._numbers, self._lengths = view.cast("d"), view.cast("Q")
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.become(0)

    def become(self, process: int) -> None:
        """Called in a new process after its fork: continue the table of the process that it replaces."""
        self._process = process
        self._slots = {name: slot for slot, name in self._used(process)}
        first = process * SLOTS + 1  # the slot before it has no name: its number says how many slots have been used
        taken = set(self._slots.values())
        self._free = [slot for slot in reversed(range(first, first + SLOTS - 1)) if slot not in taken]

    def add(self, name: str, amount: float) -> None:
        """Add to this process's number of that name."""
        with self._lock:
            if slot := self._slot(name):
                self._numbers[slot * _STEP] += amount

    def set(self, name: str, number: float) -> None:
        """Set this process's number of that name."""
        with self._lock:
            if slot := self._slot(name):
                self._numbers[slot * _STEP] = number

    def get(self, name: str) -> float:
        """This process's number of that name."""
        slot = self._slots.get(name)
        return self._numbers[slot * _STEP] if slot else 0.0

    def reset_gauges(self, process: int) -> None:
        """Called when a process has ended: its counters stay, and its gauges are 0 from now on."""
        for slot, name in self._used(process):
            if series(name).kind == "gauge":
                self._numbers[slot * _STEP] = 0.0

    def remove(self, matches: Callable[[Series], bool]) -> None:
        """Remove this process's numbers of the series that match, and the numbers from before the forks."""
        with self._lock:
            for process in {0, self._process}:
                for slot, name in self._used(process):
                    if matches(series(name)):
                        self._numbers[slot * _STEP] = 0.0
                        self._lengths[slot * _STEP + 1] = 0
                        if process == self._process:
                            self._free.append(self._slots.pop(name))

    def sums(self) -> dict[str, float]:
        """The numbers by name, summed over all processes."""
        sums: dict[str, float] = defaultdict(float)
        for process in range(self._processes):
            for slot, name in self._used(process):
                sums[name] += self._numbers[slot * _STEP]
        return sums

    def _slot(self, name: str) -> int | None:
        """The slot of a name in this process's table, or None if it has no room."""
        if name in self._slots:
            return self._slots[name]
        encoded = name.encode()
        if len(encoded) > SLOT_BYTES - _NAME:
            self._warn("name of a metric is too long", not_counted=name, most_bytes=SLOT_BYTES - _NAME)
            return None
        if not self._free:
            self._warn("metrics are full", not_counted=name, most_numbers=SLOTS - 1)
            return None
        slot = self._slots[name] = self._free.pop()
        start = slot * SLOT_BYTES + _NAME
        self._memory[start : start + len(encoded)] = encoded
        self._lengths[slot * _STEP + 1] = len(encoded)  # last: from now on other processes read the name
        used = self._process * SLOTS * _STEP
        self._numbers[used] = max(self._numbers[used], slot % SLOTS)
        return slot

    def _warn(self, event: str, **details: object) -> None:
        """Write a warning, once of each kind: each further request would bring the same one."""
        if event not in self._warned:
            self._warned.add(event)
            log.warning(event, **details)

    def _used(self, process: int) -> Iterator[tuple[int, str]]:
        """The slots of a process that have a name, and the names."""
        first = process * SLOTS
        for slot in range(first + 1, first + 1 + int(self._numbers[first * _STEP])):
            if length := self._lengths[slot * _STEP + 1]:
                start = slot * SLOT_BYTES + _NAME
                yield slot, self._memory[start : start + length].decode()


class SharedValue:
    """One number of a metric, as prometheus_client uses it."""

    def __init__(
        self,
        values: SharedValues,
        kind: str,
        metric: str,
        name: str,
        labels: Sequence[str],
        label_values: Sequence[str],
        *_: object,
        **__: object,
    ) -> None:
        self._values = values
        self._name = json.dumps([kind, metric, name, dict(zip(labels, label_values, strict=True))])
        values.add(self._name, 0.0)

    def inc(self, amount: float) -> None:
        """Add to the number of this process."""
        self._values.add(self._name, amount)

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002  # prometheus_client names it
        """Set the number of this process."""
        self._values.set(self._name, value)

    def get(self) -> float:
        """The number of this process."""
        return self._values.get(self._name)

    def get_exemplar(self) -> None:
        """None: exemplars are not shared."""


class SharedCollector(Collector):
    """The metrics of a registry, with the sums over all processes in place of this process's numbers."""

    def __init__(self, registry: CollectorRegistry, values: SharedValues) -> None:
        self._registry = registry
        self._values = values

    def collect(self) -> Iterator[Metric]:
        """The metrics and their samples."""
        found: dict[str, list[tuple[Series, float]]] = defaultdict(list)
        for name, number in self._values.sums().items():
            found[series(name).metric].append((series(name), number))
        for metric in self._registry.collect():
            metric.samples = []
            _add_samples(metric, found[metric.name])
            yield metric


def _add_samples(metric: Metric, found: list[tuple[Series, float]]) -> None:
    """Add the sums to a metric. Here each value is in one bucket; Prometheus wants it in all higher buckets too."""
    counts: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for each, number in sorted(found, key=lambda pair: float(pair[0].labels.get("le", "-inf"))):
        told = number
        if "le" in each.labels:
            group = tuple(pair for pair in each.labels.items() if pair[0] != "le")
            told = counts[group] = counts[group] + number
        metric.add_sample(each.name, each.labels, told)
    for group, count in counts.items():
        metric.add_sample(f"{metric.name}_count", dict(group), count)


@lru_cache(maxsize=SLOTS)
def series(name: str) -> Series:
    """The series that the name of a number describes."""
    return Series(*json.loads(name))
