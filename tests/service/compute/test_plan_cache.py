"""Batch plans are cached, and used only under the facts under which they were measured."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from service.compute.batch_plan import BatchPlan
from service.compute.device import Device
from service.compute.plan_cache import FRESH_S, PlanCache

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
        b'{"decode": [{}, 0]}',
        b'{"decode": [{"2": 0, "1": 0}, 0]}',
    ],
)
def test_broken_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    """A file with any other content is ignored."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(content)

    assert cache.recall(FACTS) is None


def test_old_file_is_ignored(tmp_path: Path) -> None:
    """A warm-up that was disturbed is not used for longer than a week."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    before = time.time() - FRESH_S - 1
    os.utime(file, (before, before))

    assert cache.recall(FACTS) is None


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
