"""Decision records keep one form, and the index names each of them."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SCREEN = 45  # lines


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_record_has_the_form_and_fits_one_screen(record: Path) -> None:
    """The title has a number; context, measurement, decision and consequence follow, then at most a long command."""
    text, _, _ = record.read_text(encoding="utf-8").partition("\n## The command\n")

    assert text.startswith(f"# {record.name[:4]} ")
    assert re.findall(r"(?m)^## (.+)$", text) == ["Context", "Measurement", "Decision", "Consequence"]
    assert len(text.splitlines()) <= SCREEN


def test_index_names_each_record() -> None:
    """The records are listed in the order of their numbers, which have no gap."""
    index = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index) == [record.name for record in RECORDS]
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_files_that_it_names_exist(record: Path) -> None:
    """A record names files without their folders, because files move."""
    names = {path.name for path in FOLDER.parents[1].rglob("*.py") if ".venv" not in path.as_posix()}

    assert set(re.findall(r"`(\w+\.py)`", record.read_text(encoding="utf-8"))) <= names
