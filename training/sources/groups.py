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
_PARENT = "(?s)^.*(?=/)"
_NAMED = 3


def groups_of(place: Path, names: Mapping[str, Sequence[str]], groups: str) -> dict[str, list[str]]:
    """The group of each picture of the splits of a place, by its path below the folder of its split.

    `groups` is `folder`, for the folder of the picture, or a regular expression: the group is the part of the path that
    its parentheses match, or that it matches if it has none. A picture that it does not match, or that is in no folder
    below that of its split, is a group of its own, which no other split has.

    Raises:
        BadData: the expression does not match any picture.
    """
    pattern = re.compile(_PARENT if groups == FOLDER else groups)
    found = {split: [pattern.search(name) for name in some] for split, some in names.items()}
    if not any(match for matches in found.values() for match in matches):
        first = next(name for some in names.values() for name in some)
        raise BadData(place, f"data.groups={groups} does not match the path of any picture, such as {first}")
    return {
        split: [
            (match and match[min(1, pattern.groups)]) or f"{split}/{name}"
            for match, name in zip(matches, names[split], strict=True)
        ]
        for split, matches in found.items()
    }


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
    """The indices of the images of each part, and of the rest, where a part should have that many images.

    Groups are drawn in a random order, and a part takes each group that it has room for. If it has room for none, it
    takes the smallest group. So large groups are in the rest, which is trained on.

    Raises:
        BadData: the groups are too few.
    """
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    for index in torch.randperm(len(groups), generator=generator).tolist():
        waiting[groups[index]].append(index)
    known, drawn = list(waiting), []
    for images in parts:
        taken, room = [], images
        for group, members in waiting.items():
            if len(members) <= room:
                taken.append(group)
                room -= len(members)
        if images and waiting and not taken:
            taken.append(min(waiting, key=lambda group: len(waiting[group])))
        drawn.append([index for group in taken for index in waiting.pop(group)])
    rest = [index for members in waiting.values() for index in members]
    if not rest:
        some = ", ".join(known[:_NAMED])
        raise BadData(
            name,
            f"its pictures are in {counted(len(known), 'groups')} ({some}), too few to train on some, and "
            "to choose the weights by and test with others; make the groups smaller, or leave out data.groups",
        )
    return [torch.tensor(indices, dtype=torch.int64) for indices in (*drawn, rest)]
