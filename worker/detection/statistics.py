"""How many boxes there are of what, how large they are, and of which shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.detection.looking import Seen
from worker.items import Json

Floats: TypeAlias = NDArray[np.floating[Any]]

SMALL, MEDIUM = 32**2, 96**2
"""COCO's: pixels of a box that is no longer small, and of one that is large"""
_PERCENTS = np.arange(0, 101, 2)


def of_split(seen: Sequence[Seen], classes: Sequence[str]) -> dict[str, Json]:
    """Of one split; of boxes and empty pictures, only those that are of use."""
    useful = [one for one in seen if not one.useless]
    sides = _sides(useful)
    area = sides[:, 0] * sides[:, 1]
    kinds = Counter(box.kind for one in useful for box in one.boxes)
    counts = [len(one.boxes) for one in useful]
    return {
        "pictures": len(seen),
        "useful": len(useful),
        "without_boxes": counts.count(0),
        "boxes": len(area),
        "small": int((area < SMALL).sum()),
        "medium": int(((area >= SMALL) & (area < MEDIUM)).sum()),
        "large": int((area >= MEDIUM).sum()),
        "classes": {name: kinds[number] for number, name in enumerate(classes)},
        "boxes_per_picture": percents(np.asarray(counts, float)),
        "box_side": percents(np.sqrt(area)),
        "aspect_ratio": percents(sides[:, 0] / sides[:, 1]),
        "picture_sizes": dict(Counter(f"{one.width}x{one.height}" for one in useful).most_common(5)),
    }


def tiny(seen: Sequence[Seen], imgsz: int, least: float) -> int:
    """Boxes whose shorter side has less pixels, once the longer side of their picture has imgsz."""
    return sum(
        min(box.right - box.left, box.bottom - box.top) * imgsz / max(one.width, one.height) < least
        for one in seen
        if not one.useless
        for box in one.boxes
    )


def percents(values: Floats) -> list[float]:
    """What 0, 2, 4 … 100 % of them are no more than; empty: there are none."""
    if not len(values):
        return []
    return [round(float(one), 3) for one in np.percentile(values, _PERCENTS)]


def curve(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(at), one) for at, one in zip(_PERCENTS, values, strict=False)]


def middle(values: Sequence[float]) -> str:
    return f"{values[len(values) // 2]:g}" if values else "-"


def _sides(seen: Sequence[Seen]) -> Floats:
    each = [(box.right - box.left, box.bottom - box.top) for one in seen for box in one.boxes]
    return np.asarray(each, float).reshape(-1, 2)


Splits: TypeAlias = Mapping[str, Mapping[str, Json]]
