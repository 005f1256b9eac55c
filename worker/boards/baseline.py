"""The embedded baseline: a board beside its template, and no model but a few hundred kilobytes of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from worker.boards.alignment import align
from worker.boards.copper import Floats, Mask
from worker.boards.defect import TYPES, Box, Defect
from worker.boards.differences import Difference, differences
from worker.boards.network import Network, load
from worker.boards.traits import COUNT, traits
from worker.errors import ItemError

WEIGHTS = Path(__file__).with_name("baseline.npz")
_WORTH = 0.02
"""what is less likely is not even a candidate"""
_SIDE, _STEP = 48, 10.0
"""the sides of a box are learnt in tens of pixels, of more for a difference larger than this"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Every difference of a board, and its traits."""

    differences: Sequence[Difference]
    traits: Floats
    width: int
    height: int


def inspect(template: Mask, tested: Mask) -> list[Defect]:
    """All candidates, the surest first; a difference may be a candidate as more than one type."""
    return judge(measure(template, tested), _networks())


def measure(template: Mask, tested: Mask) -> Measured:
    if template.shape != tested.shape:
        sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (template, tested))
        raise ItemError("template", f"template and board have different sizes: {sizes}")
    laid = align(template, tested)
    found = list(differences(laid, tested))
    numbers = [traits(laid, tested, one) for one in found]
    height, width = tested.shape
    return Measured(found, np.stack(numbers) if numbers else np.zeros((0, COUNT), np.float32), width, height)


def judge(board: Measured, networks: Sequence[Network]) -> list[Defect]:
    if not board.differences:
        return []
    answers = [one.ask(board.traits) for one in networks]
    likely = np.mean([shares for shares, _ in answers], axis=0)
    sides = np.mean([box for _, box in answers], axis=0)
    defects = []
    for one, shares, moved in zip(board.differences, likely, sides, strict=True):
        box = _box(one, moved, board.width, board.height)
        best = int(shares[1:].argmax()) + 1
        defects += [
            Defect(TYPES[kind - 1], box, round(float(shares[kind]), 4))
            for kind in range(1, len(TYPES) + 1)
            if kind == best or shares[kind] > _WORTH
        ]
    return sorted(defects, key=lambda one: -one.confidence)


def sides(one: Difference, box: Box) -> Floats:
    """What is learnt: how far a labelled box reaches beyond the difference, on each side."""
    beyond = (one.left - box.left, one.top - box.top, box.right - one.right, box.bottom - one.bottom)
    return np.array(beyond, np.float32) / _unit(one)


def _box(one: Difference, moved: Floats, width: int, height: int) -> Box:
    left, top, right, bottom = (float(value) for value in moved * _unit(one))
    return Box(
        round(max(0.0, one.left - left), 1),
        round(max(0.0, one.top - top), 1),
        round(min(float(width), one.right + right), 1),
        round(min(float(height), one.bottom + bottom), 1),
    )


def _unit(one: Difference) -> float:
    return _STEP * max(1.0, (max(one.right - one.left, one.bottom - one.top) + 20) / _SIDE)


@cache
def _networks() -> list[Network]:
    return load(WEIGHTS)
