"""What a model says of a board, read strictly: nothing is guessed, and what is wrong is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from worker.boards.coordinates import Coordinates
from worker.boards.defect import TYPES, Box, Defect
from worker.engines.reply import UnreadableError, json_of
from worker.items import Json

_SHOWN = 60
"""letters of what is wrong"""


@dataclass(frozen=True, slots=True)
class Said:
    defects: Sequence[Defect]
    """those that are right in form, in pixels of the picture"""
    wrong: Sequence[str] = ()
    """a complaint for each of the others, in words"""
    places: Sequence[int] = ()
    """which entry of the answer each defect is, from 0"""


def read(text: str, where: Coordinates) -> Said:
    """Raises UnreadableError where it is no array at all."""
    document = json_of(text)
    if not isinstance(document, list):
        raise UnreadableError("it is no JSON array")
    told: dict[tuple[Json, ...], int] = {}
    defects: list[Defect] = []
    places: list[int] = []
    wrong: list[str] = []
    for place, one in enumerate(document):
        if why := _wrong(one, where):
            wrong.append(f"entry {place + 1} {why}: {_short(one)}")
        elif (before := told.setdefault(tuple(one), place)) != place:
            wrong.append(f"entry {place + 1} says again what entry {before + 1} says: {_short(one)}")
        else:
            defects.append(Defect(one[0], _rounded(where.read(one[1:]))))
            places.append(place)
    return Said(defects, wrong, places)


def _wrong(one: Json, where: Coordinates) -> str | None:
    if not isinstance(one, list) or len(one) != 5:
        return 'is not ["type",left,top,right,bottom]'
    kind, *sides = one
    if kind not in TYPES:
        return f"has none of the types {', '.join(TYPES)}"
    if any(type(side) is not int for side in sides):
        return "has sides that are no whole numbers"
    left, top, right, bottom = sides
    wide, high = where.size
    if min(left, top) < 0 or right > wide or bottom > high:
        return f"leaves the picture, which is {wide} wide and {high} high"
    if left >= right or top >= bottom:
        return "is an empty box"
    return None


def _short(one: Json) -> str:
    return json.dumps(one, ensure_ascii=False)[:_SHOWN]


def _rounded(box: Box) -> Box:
    return Box(*(round(side, 1) for side in (box.left, box.top, box.right, box.bottom)))
