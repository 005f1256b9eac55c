"""Two who looked at one board: where the second sees what the first tells, and what it sees alone."""

from __future__ import annotations

from collections.abc import Sequence

from worker.boards.defect import Defect

_OVERLAP = 0.33
"""as DeepPCB's protocol has it"""


def beside(told: Sequence[Defect], seen: Sequence[Defect]) -> tuple[list[str | None], list[Defect]]:
    """For each that is told, of which type the second one sees a defect there, if any; and the others that it
    sees. Those that share most are one."""
    shares = sorted(
        (
            (-one.box.iou(other.box), first, second)
            for first, one in enumerate(told)
            for second, other in enumerate(seen)
            if one.box.iou(other.box) > _OVERLAP
        ),
    )
    there: list[str | None] = [None] * len(told)
    left = dict(enumerate(seen))
    for _, first, second in shares:
        if there[first] is None and second in left:
            there[first] = left.pop(second).type
    return there, list(left.values())
