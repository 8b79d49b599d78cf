"""Cells are chosen by name."""

import pytest

from benchmarks.serving import cases
from benchmarks.serving.cases import EVERY, QUICK, named


def test_a_name_is_one_cell_and_a_beginning_several() -> None:
    """`photo-sample` stands for its three loads, but c1 does not stand for c16."""
    assert [case.name for case in named(["mnist-encode-c1"])] == ["mnist-encode-c1"]
    assert [case.connections for case in named(["photo-sample"])] == list(cases.LOADS)


def test_unknown_name_is_refused_with_those_there_are() -> None:
    """The error comes before a server is started."""
    with pytest.raises(ValueError, match=r"No case is called fashion; the cases are mnist-encode-c1,"):
        named(["fashion"])


def test_quick_cells_are_among_all() -> None:
    """A quick run can be compared with a full one."""
    assert set(QUICK) <= set(EVERY)
