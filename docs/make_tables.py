"""`make tables`: brings the tables of settings.md and recipes.md and the tree of architecture.md up to date.

The settings come from `service/settings.py`, and the keys of recipes from `training/recipe.py`. The tree keeps its
remarks; a new file gets the first sentence of its docstring, and a moved file keeps its remark. Shorten the new remarks
by hand.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from service.settings import Settings

from .recipe_keys import recipe_keys

ROOT = Path(__file__).parents[1]
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
TREE_PAGE = ROOT / "docs" / "architecture.md"
RECIPES_PAGE = ROOT / "docs" / "recipes.md"
TABLE = re.compile(r"(?<=^\| setting \| default \| \|\n\|---\|---\|---\|\n).*?(?=^$|\Z)", re.MULTILINE | re.DOTALL)
KEYS = re.compile(r"(?<=^## Every key\n\n).*\Z", re.MULTILINE | re.DOTALL)
TREE = re.compile(r"(?<=^## The tree\n\n```\n).*?(?=^```)", re.MULTILINE | re.DOTALL)

PACKAGES = ("model_store", "training", "service", "deploy")
REMARK_COLUMN = 28


def settings_table() -> str:
    """Each setting with its default, and with the description that `--help` shows."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        told = "–" if field.default in (None, ()) else f"`{default}`"
        shown = "`model_store/models`" if name == "store" else told  # not where this machine keeps it
        rows.append(f"| `LATENTD_{name.upper()}` | {shown} | {field.description} |\n")
    return "".join(rows)


def read_remarks(tree: str) -> dict[str, str]:
    """The remark of each path in a tree; the paths of folders end with a slash."""
    remarks, folders = {}, [""]
    for indent, name, remark in re.findall(r"^( *)(\S+) +(.*)$", tree, re.MULTILINE):
        folders = folders[: len(indent) // 4 + 1]
        remarks["".join(folders) + name] = remark
        folders += [name] if name.endswith("/") else []
    return remarks


def write_tree(remarks: dict[str, str]) -> str:
    """The tree of today's files and folders; folders keep the order of the remarks."""
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    folders = {f"{parent}/" for file in files for parent in Path(file).parents if parent != Path()}
    folders |= {path for path in remarks if path.endswith("/") and (ROOT / path).is_dir()}
    order = {path: index for index, path in enumerate(remarks)}

    def place(path: str) -> list[tuple[bool, int, str]]:
        """Files stand before folders, and alphabetically; folders stand as before, new ones last."""
        ends = [match.end() for match in re.finditer("/", path)]
        inside = [(True, order.get(path[:end], len(order)), path[:end]) for end in ends]
        return inside if path.endswith("/") else [*inside, (False, 0, path)]

    lines = []
    for path in sorted(files | folders, key=place):
        head = "    " * path.rstrip("/").count("/") + path[path.rstrip("/").rfind("/") + 1 :]
        lines.append(f"{head:<{REMARK_COLUMN - 1}} {remarks.get(path) or find_remark(path, remarks)}\n")
    return "".join(lines)


def find_remark(path: str, remarks: dict[str, str]) -> str:
    """The remark of a file that has moved here, else the first sentence of the docstring."""
    file = ROOT / path / "__init__.py" if path.endswith("/") else ROOT / path
    moved = [told for old, told in remarks.items() if Path(old).name == file.name and not (ROOT / old).exists()]
    if len(moved) == 1:
        return moved[0]
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = docstring.split("\n")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def main() -> None:
    """Write the three pages."""
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    SETTINGS_PAGE.write_text(TABLE.sub(lambda _: settings_table(), page), encoding="utf-8")
    page = RECIPES_PAGE.read_text(encoding="utf-8")
    RECIPES_PAGE.write_text(KEYS.sub(lambda _: recipe_keys(), page), encoding="utf-8")
    page = TREE_PAGE.read_text(encoding="utf-8")
    TREE_PAGE.write_text(TREE.sub(lambda old: write_tree(read_remarks(old[0])), page), encoding="utf-8")


if __name__ == "__main__":
    main()
