"""A text of labels, a box a line: YOLO's, and DeepPCB's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from worker.detection.dataset import Box, Fault, Labels

_SHOWN = 60
_POLYGON = 7
"""words of a line: three corners at least, behind the class"""

Line = Callable[[list[str], int], Box]
"""raises ValueError with what is odd about the words"""


def read(file: Path, name: str, split: str, parse: Line, shares: bool) -> Labels | None:
    """Lines that cannot be read are faults; None: there is no such file."""
    try:
        text = file.read_bytes().decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        fault = Fault("odd-line", split, name, 0, f"cannot be read: {error.strerror}")
        return Labels(name, (), (fault,), shares)
    boxes: list[Box] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            try:
                boxes.append(parse(words, number))
            except ValueError as error:
                faults.append(Fault("odd-line", split, name, number, f"{error}: {line.strip()[:_SHOWN]!r}"))
    return Labels(name, boxes, faults, shares)


def yolo(words: list[str], line: int) -> Box:
    """`class x y width height`, the middle first; or a class and the corners of a polygon."""
    if len(words) == 6:
        raise ValueError("six numbers: a confidence, as predictions have it, does not belong here")
    if len(words) < 5 or len(words) % 2 == 0:
        raise ValueError("not a class and four sides, nor a polygon")
    kind, *sides = _numbers(words)
    if not kind.is_integer():
        raise ValueError("its class is no whole number")
    if len(words) >= _POLYGON:
        xs, ys = sides[::2], sides[1::2]
        return Box(int(kind), min(xs), min(ys), max(xs), max(ys), line)
    x, y, wide, high = sides
    return Box(int(kind), x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, line)


def deeppcb(words: list[str], line: int) -> Box:
    """`x1 y1 x2 y2 type`, in pixels; types begin at 1."""
    words = " ".join(words).replace(",", " ").split()
    if len(words) != 5:
        raise ValueError("not four sides and a type")
    left, top, right, bottom, kind = _numbers(words)
    if not kind.is_integer():
        raise ValueError("its type is no whole number")
    return Box(int(kind) - 1, left, top, right, bottom, line)


def _numbers(words: list[str]) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError("not all of it are numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number that is none")
    return numbers
