"""The numbers that processes share."""

import os

import pytest
import structlog

from service.telemetry import shared_values
from service.telemetry.metrics import Metrics
from service.telemetry.timings import Timings


def value(metrics: Metrics, name: str) -> float | None:
    """The value of a series, or None if it is not told."""
    lines = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if not line.startswith("#"))
    return float(lines[name]) if name in lines else None


def in_worker(metrics: Metrics, number: int, requests: int) -> None:
    """Count requests in a forked process, which then ends without a word."""
    if process := os.fork():
        os.waitpid(process, 0)
        return
    metrics.worker_started(number)
    for _ in range(requests):
        metrics.request_answered("/sample", "grey@1", 200, 0.003, Timings())
    metrics.queue_changed("grey@1", requests)
    os._exit(0)


REQUESTS = 'latentd_requests_total{code="200",model="grey@1",route="/sample"}'
QUICK, SLOW = (f'latentd_request_seconds_bucket{{le="{le}",route="/sample"}}' for le in ("0.001", "30.0"))
COUNT = 'latentd_request_seconds_count{route="/sample"}'
QUEUE = 'latentd_queue_images{model="grey@1"}'


def test_each_process_answers_with_the_sums() -> None:
    """Counters, buckets and gauges of all processes are added up."""
    metrics = Metrics(workers=2)
    in_worker(metrics, 0, requests=2)
    in_worker(metrics, 1, requests=3)

    assert [value(metrics, name) for name in (REQUESTS, QUICK, SLOW, COUNT, QUEUE)] == [5, 0, 5, 5, 5]


def test_worker_continues_the_counters_of_the_worker_that_it_replaces() -> None:
    """A thousand workers that die take as much memory as one; the gauges of a dead worker do not count."""
    metrics = Metrics(workers=2)
    sizes = []
    for _ in range(3):
        in_worker(metrics, 0, requests=2)
        metrics.worker_ended(0)
        sizes.append(len(metrics.text().splitlines()))

    assert [value(metrics, name) for name in (REQUESTS, SLOW, QUEUE)] == [6, 6, 0]
    assert len(set(sizes)) == 1


def test_series_of_a_version_end_when_the_last_process_has_left_it() -> None:
    """Their memory is used again, so that publishing for years does not fill it."""
    metrics = Metrics(workers=1)
    metrics.worker_started(0)
    for number in range(40_000):
        metrics.request_answered("/sample", f"grey@{number}", 200, 0.003, Timings())
        metrics.version_left(f"grey@{number}")
    metrics.request_answered("/sample", "grey@1", 200, 0.003, Timings())

    assert value(metrics, REQUESTS) == 1
    assert value(metrics, COUNT) == 40_001
    assert metrics.text().count(b"grey@") == 1


def test_numbers_beyond_the_memory_for_them_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others are still counted; nothing fails."""
    monkeypatch.setattr(shared_values, "SLOTS", 64)
    metrics = Metrics(workers=1)
    for number in range(100):
        metrics.request_answered("/sample", f"grey@{number}", 200, 0.003, Timings())

    assert value(metrics, COUNT) == 100
    assert 20 < metrics.text().count(b"grey@") < 64


def test_name_that_is_too_long_for_its_place_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log said that the metrics were full, which they were not."""
    metrics, long = Metrics(workers=1), "m" * shared_values.SLOT_BYTES
    monkeypatch.setattr(shared_values, "log", log := structlog.testing.CapturingLogger())
    for model in (long, long, "grey@1"):
        metrics.request_answered("/sample", model, 200, 0.003, Timings())

    assert value(metrics, REQUESTS) == 1
    assert [call.args for call in log.calls] == [("name of a metric is too long",)]
