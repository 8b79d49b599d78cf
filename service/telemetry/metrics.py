"""What Prometheus is told. Labels are bounded: routes and models that exist, never what a caller made up."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .timings import Timings

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_SECONDS_HELP = "From the first byte in to the last out"
_STAGES_HELP = "Seconds that requests spend in each stage: read, queue, compute, write"
_BATCHES_HELP = "Images computed at once: encode, decode, render (to 8 bits), score"

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # by which prometheus_client finds it

# If an operator has set it, for another program perhaps, prometheus_client keeps this process's metrics there, beside
# the counts of processes that have ended, or fails where the folder is missing. Only `share` decides here.
for _name in (_FOLDER, _FOLDER.lower()):
    os.environ.pop(_name, None)
values.ValueClass = values.MutexValue


def share(folder: Path) -> None:
    """Let metrics that are made from now on be kept in files, by this process and those forked from it."""
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # it is not typed


def forget(process: int) -> None:
    """Of a shared process that has ended keep the counts, and nothing that is under way."""
    mark_process_dead(process)  # type: ignore[no-untyped-call]  # it is not typed


def _tasks() -> int:
    """How many there are, where a loop runs."""
    with suppress(RuntimeError):
        return len(asyncio.all_tasks())
    return 0


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self._registry = registry
        self._requests = counter("latentd_requests", "Requests answered", ["route", "model", "code"])
        self._seconds = histogram("latentd_request_seconds", _SECONDS_HELP, ["route"], buckets=_SECONDS)
        self._stages = histogram("latentd_stage_seconds", _STAGES_HELP, ["stage"], buckets=_SECONDS)
        self._batches = histogram("latentd_batch_images", _BATCHES_HELP, ["operation"], buckets=_IMAGES)
        self._refused = counter("latentd_versions_refused", "Published versions that could not be served", ["model"])
        self._splits = counter("latentd_oom_splits", "Batches that did not fit into the device's memory")
        self._queues = gauge("latentd_queue_images", "Images waiting to be computed", ["model"])
        self.in_flight = gauge("latentd_requests_in_flight", "Requests under way")
        gauge("latentd_tasks", "Tasks of the event loop").set_function(_tasks)
        # prometheus_client finds a child by its labels' text, each time anew
        self._count = cache(self._requests.labels)
        self._answered_in = cache(self._seconds.labels)
        self._spent = cache(self._stages.labels)
        self._queue = cache(self._queues.labels)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def request_answered(self, route: str, model: str, code: int, seconds: float, timings: Timings) -> None:
        """A request came to its end."""
        self._count(route, model, code).inc()
        self._answered_in(route).observe(seconds)
        for stage, stage_seconds in timings.seconds.items():
            self._spent(stage).observe(stage_seconds)

    def batch_computed(self, operation: str, images: int) -> None:
        """A batch of that many images was computed."""
        self._batches.labels(operation).observe(images)

    def queue_changed(self, model: str, images: int) -> None:
        """That many images wait for a model."""
        self._queue(model).set(images)

    def version_refused(self, name: str) -> None:
        """A version of that model could not be served."""
        self._refused.labels(name).inc()

    def version_left(self, model: str) -> None:
        """A version is served no longer, and its series end; those that processes share cannot be taken back."""
        if _FOLDER in os.environ:
            return
        for metric in (self._requests, self._queues):
            metric.remove_by_labels({"model": model})
        self._count.cache_clear()
        self._queue.cache_clear()

    def out_of_memory(self) -> None:
        """A batch did not fit into the device's memory, and goes on in halves."""
        self._splits.inc()

    def text(self) -> bytes:
        """The exposition format; of all processes, where several share their metrics."""
        if _FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # it is not typed
        return generate_latest(together)
