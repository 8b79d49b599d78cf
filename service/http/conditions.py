"""Conditions: whether the client holds an answer already (If-None-Match, RFC 9110, section 13.1.2)."""

from __future__ import annotations

import re

_TAG = re.compile(r'[ \t,]*(?:W/)?("[^"]*")[ \t]*(?=,|$)')


def holds(if_none_match: str, tag: str) -> bool:
    """Whether the tags of an If-None-Match header have this one. Weak tags and strong ones are compared alike.

    `*` holds every answer, so ask only where the answer would be 200. A malformed header holds nothing.
    """
    return if_none_match.strip() == "*" or tag.removeprefix("W/") in entity_tags(if_none_match)


def entity_tags(text: str) -> list[str]:
    """The tags of a list, without the sign of a weak one; a comma inside a tag's quotes belongs to the tag."""
    text, at = text.rstrip(" \t,"), 0
    tags: list[str] = []
    while match := _TAG.match(text, at):
        tags.append(match[1])
        at = match.end()
    return tags if at == len(text) else []
