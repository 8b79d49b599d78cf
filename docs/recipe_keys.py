"""Every key of a recipe as tables for docs/recipes.md, made from the records that read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from training.recipe import Recipe

Schema = dict[str, Any]

_BOUNDS = {"minimum": "≥ {:,}", "exclusiveMinimum": "> {:,}", "maximum": "≤ {:,}", "exclusiveMaximum": "< {:,}"}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
_HEAD = "| key | values | default | |\n|---|---|---|---|\n"


def recipe_keys() -> str:
    """The sections of all tables of a recipe: its own keys first, then the keys of each table inside it."""
    schema = Recipe.model_json_schema()
    return "\n".join(_sections("The recipe itself", "", schema, schema["$defs"]))


def _sections(title: str, prefix: str, record: Schema, known: Schema) -> Iterator[str]:
    """The section of a record, then the sections of the records that its keys hold."""
    inner: list[tuple[str, str, Schema]] = []
    rows = []
    for name, field in record["properties"].items():
        key = f"{prefix}{name}"
        records = _records(field, known)
        if set(records) == {""}:
            inner.append((f"[{key}]", f"{key}.", records[""]))
            continue
        inner += [(f'[{key}] with kind = "{kind}"', f"{key}.", each) for kind, each in records.items()]
        if name != "kind":
            is_needed = name in record.get("required", ())
            rows.append(_row(key, field, " or ".join(f"`{kind}`" for kind in records), is_needed=is_needed))
    about = record.get("description", "").split("\n\n", maxsplit=1)
    table = f"\n{_HEAD}{''.join(rows)}" if rows else ""
    yield f"### {title}\n\n{_one_line(about[0])}\n{table}"
    for inner_title, inner_prefix, inner_record in inner:
        yield from _sections(inner_title, inner_prefix, inner_record, known)


def _records(field: Schema, known: Schema) -> dict[str, Schema]:
    """The records that a key can hold, by their `kind`; a key with one kind of record has the kind "" for it."""
    if "$ref" in field:
        return {"": _known(field["$ref"], known)}
    mapping = field.get("discriminator", {}).get("mapping", {})
    return {kind: _known(reference, known) for kind, reference in mapping.items()}


def _known(reference: str, known: Schema) -> Schema:
    record: Schema = known[reference.rpartition("/")[2]]
    return record


def _row(key: str, field: Schema, kinds: str, *, is_needed: bool) -> str:
    values = kinds or _values(field)
    default = "required" if is_needed else _default(field.get("default"))
    return f"| `{key}` | {values} | {default} | {_one_line(field.get('description', ''))} |\n"


def _default(value: Any) -> str:
    """The default of a key; a record is told by its kind."""
    if value is None:
        return "–"
    return f"`{value['kind'] if isinstance(value, dict) else value if isinstance(value, str) else json.dumps(value)}`"


def _values(field: Schema) -> str:
    """The values that a key takes, in words."""
    if "anyOf" in field:
        return " or ".join(_values(each) for each in field["anyOf"] if each.get("type") != "null")
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if kinds := field.get("discriminator", {}).get("mapping"):
        return f"tables of kind {' or '.join(f'`{kind}`' for kind in kinds)}"
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {'; '.join(map(_values, field['prefixItems']))}"
    if field.get("type") == "array":
        length = f"{field.get('minItems', 0)} to {field['maxItems']} " if "maxItems" in field else ""
        return f"list of {length}× {_values(field['items'])}"
    bounds = [words.format(field[name]) for name, words in _BOUNDS.items() if name in field]
    return " ".join([_WORDS[field["type"]], " and ".join(bounds)]).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
