"""The pages in docs/ are up to date: their links, proofs, settings and tree."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.make_tables import KEYS, PACKAGES, TABLE, TREE, read_remarks, settings_table, write_tree
from docs.recipe_keys import recipe_keys
from service.app import create_app
from service.settings import Settings
from service.telemetry.metrics import Metrics
from training.recipe import SHELF, SHIPPED

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files and pictures that a page links to exist, and so do the headings."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text)
    files = [*(path for path, _ in links if path), *re.findall(r'src="([^"]+)"', text)]
    into = [(page.parent / path if path else page, heading) for path, heading in links if heading]

    assert [path for path in files if not (page.parent / path).exists()] == []
    assert [f"{target}#{heading}" for target, heading in into if heading not in anchors(target)] == []


def test_every_page_is_in_the_index() -> None:
    """`docs/README.md` links to each page, and the decisions have an index of their own."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for folder in (DOCS, DOCS / "how-to") for page in folder.glob("*.md")}

    assert {page for page in pages - {"README.md"} if f"({page})" not in index} == set()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_proofs_that_are_named_exist(page: Path) -> None:
    """A test that a page calls a proof is one that runs."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))

    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_settings_page_lists_every_setting_with_its_default() -> None:
    """Each row says what `--help` says; `make tables` writes them."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (table,) = TABLE.findall(page)

    assert re.findall(r"^\| `LATENTD_(\w+)`", table, re.MULTILINE) == [name.upper() for name in Settings.model_fields]
    assert table == settings_table(), "run `make tables`"


def test_recipes_page_lists_every_key_as_the_records_have_it() -> None:
    """`make tables` writes the page from the records. Each key that a shipped recipe sets has a row."""
    (tables,) = KEYS.findall((DOCS / "recipes.md").read_text(encoding="utf-8"))
    named = set(re.findall(r"^\| `([\w.]+)`", tables, re.MULTILINE))
    shipped = {key for name in SHIPPED for key in keys_of(tomllib.loads((SHELF / f"{name}.toml").read_text("utf-8")))}

    assert {key for key in shipped if not key.endswith(".kind")} <= named
    assert tables == recipe_keys(), "run `make tables`"


def keys_of(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values of a recipe."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_places_for_new_things_exist() -> None:
    """A new file that the table names has its folder already."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = page.split("## Where a new thing goes")[1].split("\n\n")[1]
    places = re.findall(r"`((?:model_store|service|training)/[^`]*)`", table)

    assert places
    assert [place for place in places if not (ROOT / place).exists() and not (ROOT / place).parent.is_dir()] == []


def test_tree_has_a_remark_for_every_file() -> None:
    """Every file is in the tree, nothing else is, and each has a few words; `make tables` adds and removes rows."""
    (tree,) = TREE.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    remarks = read_remarks(tree)
    files = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert {name for name in remarks if name.endswith(".py")} == {name for name in files if "__init__" not in name}
    assert all((ROOT / name).is_dir() for name in remarks if name.endswith("/"))
    assert all(remarks.values())
    assert tree == write_tree(remarks), "run `make tables`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_a_page_names_exist(page: Path) -> None:
    """A misspelt variable would be an error at start."""
    named = set(re.findall(r"LATENTD_([A-Z_]*[A-Z])", page.read_text(encoding="utf-8")))

    assert named <= {name.upper() for name in Settings.model_fields}


def test_page_of_metrics_names_every_series() -> None:
    """Each of our series has a row. The series of Python and of the process come from prometheus_client."""
    page = (DOCS / "how-to" / "read-the-metrics.md").read_text(encoding="utf-8")
    series = set(re.findall(r"^# TYPE (latentd_\w+) ", Metrics().text().decode(), re.MULTILINE))
    creations = {name for name in series if name.endswith("_created")}  # times that prometheus_client adds to counters

    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == series - creations


def test_page_of_the_api_names_every_operation_and_parameter() -> None:
    """The OpenAPI has the same operations, parameters and statuses."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page.split("## Parameters")[1].split("## Errors")[0], re.MULTILINE)
    described = create_app(Settings(store=ROOT / "none")).openapi()["paths"]
    v1 = [(path, operation) for path in described if path.startswith("/v1") for operation in described[path].values()]
    in_queries = {p["name"] for _, operation in v1 for p in operation.get("parameters", ()) if p["in"] == "query"}
    statuses = {status for _, operation in v1 for status in operation["responses"] if status >= "400"}

    assert {path for path, _ in v1 if path not in page} == set()
    assert set(rows) == in_queries
    assert statuses <= set(re.findall(r"\b[45]\d\d\b", page.split("## Errors")[1].split("## Headers")[0]))
