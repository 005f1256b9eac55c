"""A picture's boxes, measured against it: what is wrong is told, and what can be mended is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker.detection.dataset import Box, Fault, Labels

_SLACK = 0.5
"""pixels beyond an edge that rounding makes"""
_PIXELS = 2.0
"""no share of a picture's side is more, however careless: these are pixels"""


def fitted(
    labels: Labels, split: str, size: tuple[int, int], classes: int
) -> tuple[Sequence[Box], Sequence[Fault]]:
    """In pixels, inside of the picture, each once."""
    boxes: list[Box] = []
    faults: list[Fault] = []
    known: dict[tuple[float, ...], Box] = {}
    for told in labels.boxes:
        box = _in_pixels(told, size) if labels.shares else told
        for check, why in _wrong(told, box, labels.shares, size, classes):
            faults.append(Fault(check, split, labels.file, told.line, why))
        kept = _clipped(box, size)
        if not 0 <= box.kind < classes or _empty(box) or _empty(kept) or (labels.shares and _is_pixels(told)):
            continue
        sides = tuple(round(side, 2) for side in kept[1:5])
        if twin := known.get((box.kind, *sides)):
            why = f"the same as that of line {twin.line}"
            faults.append(Fault("duplicate-box", split, labels.file, box.line, why))
            continue
        known[box.kind, *sides] = box
        boxes.append(kept)
    return boxes, faults


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return Box(box.kind, box.left * width, box.top * height, box.right * width, box.bottom * height, box.line)


def _wrong(
    told: Box, box: Box, shares: bool, size: tuple[int, int], classes: int
) -> Iterator[tuple[str, str]]:
    if not 0 <= box.kind < classes:
        yield "unknown-class", f"there are {classes} classes, and no number {box.kind} counted from 0"
    if _empty(box):
        yield "no-size", f"{box.right - box.left:.1f} pixels wide and {box.bottom - box.top:.1f} high"
    elif shares and _is_pixels(told):
        yield "out-of-range", f"no shares of the picture's sides, perhaps pixels: {_text(told)}"
    elif _beyond(box, size):
        what = "outside of" if _empty(_clipped(box, size)) else "beyond the edge of"
        yield "out-of-range", f"{what} {size[0]}x{size[1]} pixels: {_text(box)}"


def _text(box: Box) -> str:
    return " ".join(f"{side:.6g}" for side in box[1:5])


def _is_pixels(told: Box) -> bool:
    return max(told.right - told.left, told.bottom - told.top) > _PIXELS


def _empty(box: Box) -> bool:
    return box.right <= box.left or box.bottom <= box.top


def _beyond(box: Box, size: tuple[int, int]) -> bool:
    width, height = size
    return min(box.left, box.top) < -_SLACK or box.right > width + _SLACK or box.bottom > height + _SLACK


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return Box(
        box.kind,
        min(max(box.left, 0.0), width),
        min(max(box.top, 0.0), height),
        min(max(box.right, 0.0), width),
        min(max(box.bottom, 0.0), height),
        box.line,
    )
