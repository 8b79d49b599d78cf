"""Groups of pictures that belong together, such as the pictures of one person: a split has all of a group, or none."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from model_store.vae.sentences import counted

from ..errors import BadData

FOLDER = "folder"
_NAMED = 3


def groups_of(place: Path, names: Sequence[str], groups: str) -> list[str]:
    """The group of each picture, by its path below the folder `place`.

    `groups` is `folder`, for the folder of the picture, or a regular expression: the group is the part of the path that
    its parentheses match, or that it matches if it has none. A picture that it does not match is a group of its own.

    Raises:
        BadData: the expression does not match any picture.
    """
    if groups == FOLDER:
        return [name.rpartition("/")[0] for name in names]
    found = [re.search(groups, name) for name in names]
    if not any(found):
        raise BadData(place, f"data.groups={groups} does not match the path of any picture, such as {names[0]}")
    return [match[min(1, match.re.groups)] or name if match else name for match, name in zip(found, names, strict=True)]


def check_apart(place: Path, groups: Mapping[str, Sequence[str]]) -> None:
    """Check that splits, which the data itself has, share no group.

    Raises:
        BadData: two splits have pictures of the same group.
    """
    split_of: dict[str, str] = {}
    for split, members in groups.items():
        for group in dict.fromkeys(members):
            if (other := split_of.setdefault(group, split)) != split:
                raise BadData(
                    place, f"{other} and {split} both have pictures of the group {group}; move them into one of both"
                )


def draw_groups(name: str, groups: Sequence[str], parts: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """The indices of the images of each part, and of the rest, where each part has at least that many images.

    Whole groups are drawn, in a random order, until a part has its images; so a part may have more.

    Raises:
        BadData: the groups are too few.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index in torch.randperm(len(groups), generator=generator).tolist():
        members[groups[index]].append(index)
    waiting, drawn = list(members.values()), []
    for images in parts:
        part: list[int] = []
        while waiting and len(part) < images:
            part += waiting.pop(0)
        drawn.append(part)
    rest = [index for group in waiting for index in group]
    if not rest:
        some = ", ".join(list(members)[:_NAMED])
        raise BadData(
            name,
            f"its pictures are in {counted(len(members), 'groups')} ({some}), too few or too large to train on some, "
            "and to choose the weights by and test with others; make the groups smaller, or leave out data.groups",
        )
    return [torch.tensor(indices, dtype=torch.int64) for indices in (*drawn, rest)]
