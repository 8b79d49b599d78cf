"""The tables for the terminal and for the page."""

import io
import re
from pathlib import Path

from rich.console import Console

from benchmarks import page as pages
from benchmarks.serving import growth, report
from benchmarks.serving.__main__ import asked
from benchmarks.serving.results import Results


def section(results: Results, tmp_path: Path) -> str:
    """The page that a run writes."""
    page = tmp_path / "benchmarks.md"
    pages.write("Serving", report.tables(results), page)
    return page.read_text(encoding="utf-8")


def test_ratios_are_those_of_each_round(results: Results, tmp_path: Path) -> None:
    """The median comes first, then every round."""
    assert "| mosec | 1,100 | 2.00 | 4.00 | 100 | 0 | 2.50 (2.00 3.00) |" in section(results, tmp_path)


def test_absent_peer_is_named_with_its_reason(results: Results, tmp_path: Path) -> None:
    """A missing measurement is written as missing, not left out."""
    assert "| triton | triton 1 | defaults | not measured: no such package | – | – |" in section(results, tmp_path)


def test_batches_stand_beside_the_bare_loop(results: Results, tmp_path: Path) -> None:
    """Ours had 100 requests of 64 images, the bare loop 8000 images; naive was not measured."""
    written = section(results, tmp_path)

    assert "| batch-encode | latentd | 6,400 | 2.00 | 4.00 | 100 | 0 | – |" in written
    assert "| batch-encode | naive | – | – | – | – | – | – |" in written
    assert "| batch-encode | bare loop, frozen | 8,000 | – | – | – | – | 0.80 (0.80 0.80) |" in written


def test_text_around_the_section_is_kept(results: Results, tmp_path: Path) -> None:
    """Text outside of the section, written by hand, is kept by a second run."""
    page = tmp_path / "benchmarks.md"
    pages.write("Serving", report.tables(results), page)
    page.write_text(page.read_text(encoding="utf-8") + "\n## Why not\n\nBecause.\n", encoding="utf-8")
    pages.write("Serving", report.tables(results), page)

    assert page.read_text(encoding="utf-8").count("## Serving") == 1
    assert page.read_text(encoding="utf-8").endswith("## Why not\n\nBecause.\n")


def test_each_benchmark_has_a_section_of_its_own(results: Results, tmp_path: Path) -> None:
    """A benchmark does not overwrite the section of another."""
    page = tmp_path / "benchmarks.md"
    pages.write("Serving", report.tables(results), page)
    pages.write("Training", [pages.Table("Images/s", ("recipe",), [("mnist",)])], page)

    assert re.findall("^## .*", page.read_text(encoding="utf-8"), re.MULTILINE) == ["## Serving", "## Training"]


def test_tables_fit_a_terminal(results: Results) -> None:
    """The terminal shows the same numbers as the page."""
    console = Console(width=120, file=io.StringIO(), record=True)
    pages.show(report.tables(results), console)

    assert "2.50 (2.00 3.00)" in console.export_text()


def test_curves_become_pictures_that_the_page_shows(results: Results, tmp_path: Path) -> None:
    """The page has a figure for each axis that was measured."""
    figures = growth.draw(results, tmp_path / "figures")
    pages.write("Serving", report.tables(results), tmp_path / "benchmarks.md", figures)

    assert [figure.read_bytes()[1:4] for figure in figures] == [b"PNG"]
    assert "(figures/growth-connections.png)" in (tmp_path / "benchmarks.md").read_text(encoding="utf-8")


def test_command_on_the_page_names_no_folders() -> None:
    """Paths of this machine mean nothing to a reader."""
    assert asked(["--data", "/home/somebody/mnist", "--rounds", "5"]) == (
        "python -m benchmarks.serving --data mnist --rounds 5"
    )
