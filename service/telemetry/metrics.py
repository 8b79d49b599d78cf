"""Metrics for Prometheus. Labels are bounded: they name routes and models that exist, nothing that a client sent."""

from __future__ import annotations

import asyncio
import os
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .shared_values import SharedCollector, SharedValue, SharedValues
from .timings import Timings

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_SECONDS_HELP = "Seconds from the head of a request to the end of its answer"
_STAGES_HELP = "Seconds that requests spend in each stage: read, queue, compute, write"
_RECOMPUTED_HELP = "Images that were not finite in half precision, and were computed again in float32"
_BATCHES_HELP = "Images of each computed batch, by forward pass: encode, decode, render (to 8 bits), score"

# If an operator has set it, perhaps for another program, prometheus_client would keep this process's metrics there.
for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(_name, None)


class Metrics:
    """The counters of one service, in a registry of their own.

    Metrics of several workers share their numbers: each worker answers with the sums. Make the metrics of one kind only
    in a process: prometheus_client switches as a whole.
    """

    def __init__(self, workers: int = 0) -> None:
        self._shared = SharedValues(1 + workers) if workers else None
        values.ValueClass = partial(SharedValue, self._shared) if self._shared else values.MutexValue
        registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._registry = registry
        self._requests = counter("latentd_requests", "Requests answered", ["route", "model", "code"])
        self._seconds = histogram("latentd_request_seconds", _SECONDS_HELP, ["route"], buckets=_SECONDS)
        self._stages = histogram("latentd_stage_seconds", _STAGES_HELP, ["stage"], buckets=_SECONDS)
        self._batches = histogram("latentd_batch_images", _BATCHES_HELP, ["forward_pass"], buckets=_IMAGES)
        self._refused = counter("latentd_versions_refused", "Published versions that could not be served", ["model"])
        self._splits = counter("latentd_oom_splits", "Batches that did not fit into the device's memory")
        self._recomputed = counter("latentd_recomputed_images", _RECOMPUTED_HELP, ["model"])
        self._queues = gauge("latentd_queue_images", "Images waiting to be computed", ["model"])
        self.in_flight = gauge("latentd_requests_in_flight", "Requests that have started and are being answered")
        self._tasks = gauge("latentd_tasks", "Tasks of the event loop")
        # cached, since prometheus_client looks a child up by the text of its labels at each call
        self._count = cache(self._requests.labels)
        self._answered_in = cache(self._seconds.labels)
        self._spent = cache(self._stages.labels)
        self._queue = cache(self._queues.labels)
        if self._shared:
            self._told = CollectorRegistry()
            self._told.register(SharedCollector(registry, self._shared))
            return
        self._told = registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

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
        """Called when a version is not served any more: its series end."""
        if self._shared:
            self._shared.remove(lambda series: series.labels.get("model") == model)
        for metric in (self._requests, self._queues, self._recomputed):
            metric.remove_by_labels({"model": model})
        self._count.cache_clear()
        self._queue.cache_clear()

    def out_of_memory(self) -> None:
        """Called when a batch did not fit into the device's memory and is computed in halves."""
        self._splits.inc()

    def images_recomputed(self, model: str, images: int) -> None:
        """Called when images were not finite in half precision, and were computed again in float32."""
        self._recomputed.labels(model).inc(images)

    def count_tasks(self) -> None:
        """Called in the event loop before the text is made, perhaps in another thread."""
        self._tasks.set(len(asyncio.all_tasks()))

    def worker_started(self, number: int) -> None:
        """Called in a worker that has been forked: count in the place of that number from now on."""
        if self._shared:
            self._shared.become(1 + number)

    def worker_ended(self, number: int) -> None:
        """Called when a worker has ended: its counters stay, and the next worker of its number continues them."""
        if self._shared:
            self._shared.reset_gauges(1 + number)

    def text(self) -> bytes:
        """All metrics in Prometheus' exposition format, summed over the processes that share them."""
        return generate_latest(self._told)
