"""The free memory is the machine's, or the container's, if the container has less."""

import sys
from pathlib import Path

import pytest

from model_store import CorruptWeights, Store, free_memory

MIB = 2**20


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a system with 8 MiB free, where the container uses 3 of its 4 MiB, 1 of them as a cache of files."""
    (tmp_path / "meminfo").write_text("MemTotal:       16384 kB\nMemFree:  10 kB\nMemAvailable:    8192 kB\n")
    (tmp_path / "memory.max").write_text(f"{4 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\nfile 7\ninactive_file {MIB // 2}\nactive_file {MIB // 2}\n")
    monkeypatch.setattr(free_memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "CONTAINER", tmp_path)
    return tmp_path


def test_container_has_less_than_the_machine(system: Path) -> None:
    """Its limit counts; its cache of files is free."""
    assert free_memory.free_memory() == 2 * MIB


@pytest.mark.parametrize("limit", ["max\n", f"{2**40}\n", None], ids=["none", "large", "no-file"])
def test_machine_counts_where_the_container_has_more(system: Path, limit: str | None) -> None:
    """A container may have no limit, and a system no containers."""
    (system / "memory.max").unlink()
    (system / "memory.max").write_text(limit or "")

    assert free_memory.free_memory() == 8 * MIB


def test_container_above_its_limit_has_nothing_free(system: Path) -> None:
    """The number is never negative."""
    (system / "memory.current").write_text(f"{9 * MIB}\n")

    assert free_memory.free_memory() == 0


def test_unknown_memory_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems other than Linux have other files."""
    monkeypatch.setattr(free_memory, "MACHINE", tmp_path / "none")
    monkeypatch.setattr(free_memory, "CONTAINER", tmp_path)

    assert free_memory.free_memory() == sys.maxsize


def test_weights_that_do_not_fit_into_the_memory_are_not_read(store: Store, system: Path) -> None:
    """A sparse file of the largest network takes no space on the disk, and its hash may be right."""
    (system / "memory.max").write_text(f"{2 * MIB + 10_000}\n")

    with pytest.raises(
        CorruptWeights, match=r"weights\.safetensors: to read them takes .* bytes of memory, .* free"
    ) as e:
        store.load(store.resolve("grey"))
    assert isinstance(e.value.__cause__, OSError)
