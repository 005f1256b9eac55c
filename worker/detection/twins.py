"""Pictures that show the same: in one split, and in two, where a test would be too easy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from worker.detection.dataset import TEST, VAL, Fault
from worker.detection.looking import Seen

_FIRST = (TEST, VAL)
"""these keep a picture that others have too"""


def parted(seen: Sequence[Seen]) -> tuple[list[Seen], list[Fault]]:
    """In the order given; of pictures that show the same one is left."""
    owners: dict[bytes, Seen] = {}
    faults: list[Fault] = []
    found = list(seen)
    for at in _by_split(seen):
        one = seen[at]
        if one.useless:
            continue
        owner = owners.setdefault(one.digest, one)
        if owner is one:
            continue
        check = "duplicate-picture" if owner.split == one.split else "leak"
        same = [box[:5] for box in one.boxes] == [box[:5] for box in owner.boxes]
        why = f"shows what {owner.name} of {owner.split} shows" + ("" if same else ", with other labels")
        faults.append(Fault(check, one.split, one.name, 0, why))
        found[at] = replace(one, useless=check)
    return found, faults


def _by_split(seen: Sequence[Seen]) -> Iterable[int]:
    def rank(at: int) -> int:
        split = seen[at].split
        return _FIRST.index(split) if split in _FIRST else len(_FIRST)

    return sorted(range(len(seen)), key=rank)
