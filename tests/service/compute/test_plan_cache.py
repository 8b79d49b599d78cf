"""What warm-ups found out is remembered, and never trusted further than it should be."""

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


def test_what_was_kept_is_recalled_while_the_same_facts_hold(tmp_path: Path) -> None:
    """With another number of threads, say, nothing is known."""
    PlanCache(tmp_path / "cache").store(FACTS, PLANS)

    assert PlanCache(tmp_path / "cache").recall(FACTS) == PLANS
    assert PlanCache(tmp_path / "cache").recall({**FACTS, "threads": "4"}) is None


def test_nothing_is_known_without_a_folder(tmp_path: Path) -> None:
    """At a first start."""
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
def test_broken_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    """Whatever is in it."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(content)

    assert cache.recall(FACTS) is None


def test_old_file_is_as_none(tmp_path: Path) -> None:
    """A warm-up that was disturbed is not remembered for ever."""
    cache = PlanCache(tmp_path / "cache")
    cache.store(FACTS, PLANS)
    (file,) = (tmp_path / "cache").iterdir()
    before = time.time() - FRESH_S - 1
    os.utime(file, (before, before))

    assert cache.recall(FACTS) is None


def test_folder_that_cannot_be_written_is_no_error() -> None:
    """A container's is often read-only."""
    cache = PlanCache(Path(os.devnull))

    cache.store(FACTS, PLANS)

    assert cache.recall(FACTS) is None


@pytest.mark.parametrize(
    "variable", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"]
)
def test_facts_tell_the_variables_that_choose_kernels(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found with other kernels says nothing."""
    device = Device(torch.device("cpu"))
    before = device.facts()
    monkeypatch.setenv(variable, "avx2, say")

    assert device.facts() != before


def test_facts_tell_what_the_processor_can_do() -> None:
    """Under a virtual machine many processors have one name."""
    facts = Device(torch.device("cpu")).facts()

    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert len(facts["device"]) > 0


@pytest.mark.parametrize("other", [{"dtype": torch.bfloat16}, {"runtime": "onnxruntime"}, {"inline_s": 1.0}])
def test_facts_tell_what_decides_how_a_model_is_computed(other: dict[str, Any]) -> None:
    """Another precision, runtime or limit is another fact."""
    cpu = torch.device("cpu")

    assert Device(cpu, **other).facts() != Device(cpu).facts() == Device(cpu).facts()
