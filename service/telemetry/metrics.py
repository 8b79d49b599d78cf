"""Metrics for Prometheus. Labels are bounded: they name routes and models that exist, nothing that a client sent."""

from __future__ import annotations

import asyncio
import os
from functools import cache, partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .timings import Timings

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_SECONDS_HELP = "Seconds from the head of a request to the end of its answer"
_STAGES_HELP = "Seconds that requests spend in each stage: read, queue, compute, write"
_BATCHES_HELP = "Images of each computed batch, by forward pass: encode, decode, render (to 8 bits), score"

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # by which prometheus_client finds the folder of shared counts

# If an operator has set it, perhaps for another program, prometheus_client keeps this process's metrics there, beside
# the counts of processes that have ended, or fails where the folder is missing. Only `Metrics` decides here.
for _name in (_FOLDER, _FOLDER.lower()):
    os.environ.pop(_name, None)
values.ValueClass = values.MutexValue


class Metrics:
    """The counters of one service, in a registry of their own.

    With a folder, processes that are forked from this one share the counters through files there, and each of them
    answers with the sums. Make the metrics of one kind only in a process: prometheus_client switches as a whole.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        if folder is not None:
            os.environ[_FOLDER] = str(folder)  # prometheus_client takes it from nowhere else
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # it is not typed
        registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self._registry = registry
        self._requests = counter("latentd_requests", "Requests answered", ["route", "model", "code"])
        self._seconds = histogram("latentd_request_seconds", _SECONDS_HELP, ["route"], buckets=_SECONDS)
        self._stages = histogram("latentd_stage_seconds", _STAGES_HELP, ["stage"], buckets=_SECONDS)
        self._batches = histogram("latentd_batch_images", _BATCHES_HELP, ["forward_pass"], buckets=_IMAGES)
        self._refused = counter("latentd_versions_refused", "Published versions that could not be served", ["model"])
        self._splits = counter("latentd_oom_splits", "Batches that did not fit into the device's memory")
        self._queues = gauge("latentd_queue_images", "Images waiting to be computed", ["model"])
        self.in_flight = gauge("latentd_requests_in_flight", "Requests that are being answered")
        self._tasks = gauge("latentd_tasks", "Tasks of the event loop")
        # cached, since prometheus_client looks a child up by the text of its labels at each call
        self._count = cache(self._requests.labels)
        self._answered_in = cache(self._seconds.labels)
        self._spent = cache(self._stages.labels)
        self._queue = cache(self._queues.labels)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def request_answered(self, route: str, model: str, code: int, seconds: float, timings: Timings) -> None:
        """Called when a request has been answered."""
        self._count(route, model, code).inc()
        self._answered_in(route).observe(seconds)
        for stage, stage_seconds in timings.seconds.items():
            self._spent(stage).observe(stage_seconds)

    def batch_computed(self, forward_pass: str, images: int) -> None:
        """Called when a forward pass of a batch of images has been computed."""
        self._batches.labels(forward_pass).observe(images)

    def queue_changed(self, model: str, images: int) -> None:
        """Called when the number of images that wait for a model has changed."""
        self._queue(model).set(images)

    def version_refused(self, name: str) -> None:
        """Called when a version of a model could not be served."""
        self._refused.labels(name).inc()

    def version_left(self, model: str) -> None:
        """Called when a version is not served any more: its series end, unless processes share them in files."""
        if self._folder is not None:
            return
        for metric in (self._requests, self._queues):
            metric.remove_by_labels({"model": model})
        self._count.cache_clear()
        self._queue.cache_clear()

    def out_of_memory(self) -> None:
        """Called when a batch did not fit into the device's memory and is computed in halves."""
        self._splits.inc()

    def count_tasks(self) -> None:
        """Called in the event loop before the text is made, perhaps in another thread."""
        self._tasks.set(len(asyncio.all_tasks()))

    def worker_ended(self, process: int) -> None:
        """Called when a process that shares the metrics has ended: keep its counters and drop its gauges."""
        mark_process_dead(process, self._folder)  # type: ignore[no-untyped-call]  # it is not typed

    def text(self) -> bytes:
        """All metrics in Prometheus' exposition format, summed over the processes that share them."""
        if self._folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, str(self._folder))  # type: ignore[no-untyped-call]  # it is not typed
        return generate_latest(together)
