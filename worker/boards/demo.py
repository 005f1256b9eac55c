"""A few boards to try the tasks on: `python -m worker.boards.demo DIR`.

Everything is drawn here, the same on every machine, and lies there as DeepPCB's boards do."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from worker.boards.copper import Mask
from worker.boards.defect import TYPES, Box, Defect

SIDE = 640
_BOARDS = 6
_DONE = "trainval.txt"
"""written last: a folder that has it is complete"""
_LANES = tuple(range(60, SIDE - 40, 56))
_WIDE, _PAD = 14, 19
_LEFT, _RIGHT = 50, 590
_MARGIN = 9
"""pixels that a labelled box reaches beyond the defect"""


def make(folder: Path) -> str:
    """Draws the set, unless it is there already; one line that says what was done."""
    if (folder / _DONE).exists():
        return f"{folder} is there already, nothing to do"
    lines = []
    for number in range(_BOARDS):
        group = f"{number // 2 + 1:05}"
        place, labels = (folder / f"group{group}" / f"{group}{end}" for end in ("", "_not"))
        for each in (place, labels):
            each.mkdir(parents=True, exist_ok=True)
        name = f"{group}{number % 2:03}"
        template, tested, defects = board(number)
        for end, copper in (("temp", template), ("test", tested)):
            kept = cv2.imencode(".jpg", np.where(copper, 0, 255).astype(np.uint8))[1]
            (place / f"{name}_{end}.jpg").write_bytes(kept.tobytes())
        (labels / f"{name}.txt").write_text("\n".join(map(_line, defects)))
        lines.append(f"group{group}/{group}/{name}.jpg group{group}/{group}_not/{name}.txt")
    (folder / _DONE).write_text("\n".join(lines))
    return f"{folder}: {_BOARDS} boards beside their templates"


def board(seed: int) -> tuple[Mask, Mask, list[Defect]]:
    """A template; the board, which lies a little askew; and what is wrong with it."""
    draw = random.Random(seed)
    template = _conductors(draw)
    tested = template.copy()
    lanes = draw.sample(range(len(_LANES) - 1), len(TYPES))
    boxes = [
        _SPOIL[kind](tested, draw.randrange(150, 490), _LANES[lane])
        for kind, lane in zip(TYPES, lanes, strict=True)
    ]
    right, down = draw.randint(-4, 4), draw.randint(-4, 4)
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(tested, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    defects = [
        Defect(
            kind, Box(x - _MARGIN + right, y - _MARGIN + down, to_x + _MARGIN + right, to_y + _MARGIN + down)
        )
        for kind, (x, y, to_x, to_y) in zip(TYPES, boxes, strict=True)
    ]
    return template, moved.astype(np.uint8), defects


def _conductors(draw: random.Random) -> Mask:
    copper = np.zeros((SIDE, SIDE), np.uint8)
    for lane in _LANES:
        begins, ends = _LEFT + draw.randrange(0, 60), _RIGHT - draw.randrange(0, 60)
        cv2.line(copper, (begins, lane), (ends, lane), 1, _WIDE)
        for end in (begins, ends):
            cv2.circle(copper, (end, lane), _PAD, 1, -1)
            cv2.circle(copper, (end, lane), 7, 0, -1)
    return copper


Corners = tuple[int, int, int, int]


def _disc(copper: Mask, x: int, y: int, reach: int, value: int) -> Corners:
    cv2.circle(copper, (x, y), reach, value, -1)
    return x - reach, y - reach, x + reach, y + reach


def _gap(copper: Mask, x: int, y: int) -> Corners:
    reach = _WIDE // 2 + 1
    cv2.rectangle(copper, (x, y - reach), (x + 7, y + reach), 0, -1)
    return x, y - reach, x + 7, y + reach


def _bridge(copper: Mask, x: int, y: int) -> Corners:
    cv2.line(copper, (x, y), (x, y + 56), 1, 7)
    return x - 3, y + _WIDE // 2, x + 4, y + 56 - _WIDE // 2


_SPOIL: dict[str, Callable[[Mask, int, int], Corners]] = {
    "open": _gap,
    "short": _bridge,
    "mousebite": lambda copper, x, y: _disc(copper, x, y - _WIDE // 2, 6, 0),
    "spur": lambda copper, x, y: _disc(copper, x, y + _WIDE // 2 + 2, 6, 1),
    "copper": lambda copper, x, y: _disc(copper, x, y + 28, 8, 1),
    "pin-hole": lambda copper, x, y: _disc(copper, x, y, 3, 0),
}


def _line(one: Defect) -> str:
    sides = (one.box.left, one.box.top, one.box.right, one.box.bottom)
    return " ".join(f"{side:.0f}" for side in (*sides, TYPES.index(one.type) + 1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.boards.demo DIR")
    sys.stdout.write(make(Path(sys.argv[1])) + "\n")
