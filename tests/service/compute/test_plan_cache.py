"""Batch plans are cached, and used only under the facts under which they were measured."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.compute.batch_plan import BatchPlan
from service.compute.device import Device
from service.compute.plan_cache import FRESH_S, MAX_BYTES, PlanCache

FACTS = {"device": "a processor", "threads": "2"}
PLANS = {"decode": BatchPlan({1: 0.001, 2: 0.0015, 4: 0.006}, inline_images=2)}


def test_stored_plans_are_recalled_under_the_same_facts(tmp_path: Path) -> None:
    """With another number of threads, for example, the cache has no plans."""
    PlanCache(tmp_path / "cache").store(FACTS, PLANS)

    assert PlanCache(tmp_path / "cache").recall(FACTS) == PLANS
    assert PlanCache(tmp_path / "cache").recall({**FACTS, "threads": "4"}) is None


def test_cache_without_a_folder_has_no_plans(tmp_path: Path) -> None:
    """At the first start the folder does not exist yet."""
    assert PlanCache(tmp_path / "cache").recall(FACTS) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b'{"decode": [{"1": 0.1}, "x"]}',
        b"[1]",
        b"[" * 60_000,
        b" " * MAX_BYTES + b"{}",
    ],
)
def test_broken_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    """A file with any other content is ignored."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(content)

    assert cache.recall(FACTS) is None


@pytest.mark.parametrize("age_s", [FRESH_S + 1, -FRESH_S - 1], ids=["old", "from the future"])
def test_old_file_is_ignored(tmp_path: Path, age_s: float) -> None:
    """A warm-up that was disturbed is not used for longer than a week, also if the clock was wrong."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    os.utime(file, (time.time() - age_s,) * 2)

    assert cache.recall(FACTS) is None


def make_link(file: Path) -> None:
    """Put a link to the plans in the file's place."""
    file.symlink_to(file.rename(file.with_name("elsewhere")))


def make_pipe(file: Path) -> None:
    """Put a pipe in the file's place, from which a reader would wait for bytes."""
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("replace", [make_link, make_pipe])
def test_only_a_regular_file_is_read_and_it_is_written_again(tmp_path: Path, replace: Callable[[Path], None]) -> None:
    """A pipe would hold up the start without an end."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    replace(file)

    assert cache.recall(FACTS) is None
    cache.store(FACTS, PLANS)
    assert cache.recall(FACTS) == PLANS


def test_plans_are_not_written_through_a_link(tmp_path: Path) -> None:
    """A file may have the name under which plans are written first."""
    cache, other = PlanCache(tmp_path / "cache"), tmp_path / "other"
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    file.with_suffix(f".{os.getpid()}").symlink_to(other)
    cache.store(FACTS, PLANS)

    assert not other.exists()
    assert cache.recall(FACTS) == PLANS


def test_folder_that_cannot_be_written_is_no_error() -> None:
    """In a container the folder is often read-only."""
    cache = PlanCache(Path(os.devnull))

    cache.store(FACTS, PLANS)

    assert cache.recall(FACTS) is None


@pytest.mark.parametrize(
    "variable", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"]
)
def test_facts_tell_the_variables_that_choose_kernels(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that were measured with other kernels do not hold."""
    device = Device(torch.device("cpu"))
    before = device.facts()
    monkeypatch.setenv(variable, "avx2, say")

    assert device.facts() != before


def test_facts_tell_what_the_processor_can_do() -> None:
    """On virtual machines, many processors have the same name."""
    facts = Device(torch.device("cpu")).facts()

    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert len(facts["device"]) > 0


@pytest.mark.parametrize("other", [{"dtype": torch.bfloat16}, {"runtime": "onnxruntime"}, {"inline_s": 1.0}])
def test_facts_tell_what_decides_how_a_model_is_computed(other: dict[str, Any]) -> None:
    """Another precision, runtime or limit changes the facts."""
    cpu = torch.device("cpu")

    assert Device(cpu, **other).facts() != Device(cpu).facts() == Device(cpu).facts()
