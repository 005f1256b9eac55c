"""DeepPCB as it really is: pairs of pictures, and labels whose lines are separated by spaces."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from worker.boards.defect import TYPES, Box, Defect
from worker.errors import ItemError, UsageError

TESTED, TEMPLATE = "_test", "_temp"
_GROUP = re.compile(r"(?:^|/)group(\d+)/")


Size = tuple[int, int]
"""width, height"""
Look = Callable[[Path], Size]
"""raises ItemError of what is no picture"""


@dataclass(frozen=True, slots=True)
class Odd:
    """A line, or a file, that is not as it should be, and is not used."""

    file: str
    line: int
    """from 1; 0: all of it"""
    why: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One board: what it is and what it should be."""

    tested: Path
    template: Path
    group: str
    """boards of one group look alike: never split them between training and validation"""
    defects: Sequence[Defect]


def read(folder: Path) -> tuple[list[Pair], list[Odd]]:
    """All pairs below a folder, in the order of their names."""
    tested = sorted(folder.rglob(f"*{TESTED}.jpg"))
    pairs, odd = _gather(
        folder, ((one, labels_of(one), one.relative_to(folder).as_posix(), 0) for one in tested)
    )
    if not pairs:
        raise UsageError(
            f"{folder} holds no board with its template and labels: …{TESTED}.jpg is searched for"
        )
    return pairs, odd


def read_list(file: Path, size: Look | None = None) -> tuple[list[Pair], list[Odd]]:
    """The pairs that one of DeepPCB's lists names: `picture.jpg labels.txt` a line, where the picture's name
    lacks what tells a board from its template. `size`: each picture is looked at, and what cannot be read, or
    is labelled outside of it, is odd."""
    named: list[tuple[Path, Path, str, int]] = []
    odd: list[Odd] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = line.split()
        if len(words) != 2:
            if words:
                odd.append(Odd(file.name, number, f"not a picture and its labels: {line[:60]!r}"))
            continue
        if outside := [word for word in words if ".." in Path(word).parts or Path(word).is_absolute()]:
            odd.append(Odd(file.name, number, f"{outside[0]} leads out of the list's folder"))
            continue
        picture, labels = (file.parent / word for word in words)
        named.append((picture.with_stem(picture.stem + TESTED), labels, file.name, number))
    pairs, missing = _gather(file.parent, named, size)
    return pairs, odd + missing


def _gather(
    folder: Path, named: Iterable[tuple[Path, Path, str, int]], size: Look | None = None
) -> tuple[list[Pair], list[Odd]]:
    """`named`: the picture, its labels, and where it is named."""
    odd: list[Odd] = []
    pairs: list[Pair] = []
    for tested, labels, where, line in named:
        template = template_of(tested)
        missing = next((file for file in (tested, template, labels) if not file.is_file()), None)
        if missing:
            odd.append(Odd(where, line, f"there is no {missing.name}"))
            continue
        try:
            room, _ = [size(one) for one in (tested, template)] if size else (None, None)
        except ItemError as error:
            odd.append(Odd(where, line, error.message))
            continue
        text = labels.read_text(encoding="utf-8-sig", errors="replace")
        defects, unread = parse(text, labels.relative_to(folder).as_posix(), room)
        odd += unread
        below = f"{folder.resolve().name}/{tested.relative_to(folder).as_posix()}"
        pairs.append(Pair(tested, template, group(below), defects))
    return pairs, odd


def parse(text: str, file: str, room: Size | None = None) -> tuple[list[Defect], list[Odd]]:
    """`x1 y1 x2 y2 type` a line; the last may lack its end. `room`: the size of the picture."""
    wide, high = room or (math.inf, math.inf)
    defects: list[Defect] = []
    odd: list[Odd] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            left, top, right, bottom, kind = map(int, words)
        except ValueError:
            odd.append(Odd(file, number, f"not five whole numbers: {line[:60]!r}"))
            continue
        if not 1 <= kind <= len(TYPES):
            odd.append(Odd(file, number, f"no type has the number {kind}"))
        elif left >= right or top >= bottom or min(left, top) < 0:
            odd.append(Odd(file, number, f"no box: {left} {top} {right} {bottom}"))
        elif right > wide or bottom > high:
            odd.append(Odd(file, number, f"outside of {wide}x{high}: {left} {top} {right} {bottom}"))
        else:
            defects.append(Defect(TYPES[kind - 1], Box(left, top, right, bottom)))
    return defects, odd


def template_of(tested: Path) -> Path:
    return tested.with_stem(tested.stem.removesuffix(TESTED) + TEMPLATE)


def labels_of(tested: Path) -> Path:
    """…/00041/00041000_test.jpg → …/00041_not/00041000.txt"""
    folder = tested.parent.with_name(f"{tested.parent.name}_not")
    return folder / f"{tested.stem.removesuffix(TESTED)}.txt"


def group(path: str) -> str:
    """Of a path, the board group: `group00041`, or else the folder."""
    found = _GROUP.search(path)
    return found[1] if found else PurePosixPath(path).parent.name


def split(groups: Sequence[str], share: float) -> set[str]:
    """The groups held out: whole ones, the smallest first, while they stay within the share of all boards."""
    counts = sorted((groups.count(one), one) for one in set(groups))
    held: set[str] = set()
    taken = 0
    for count, name in counts:
        if taken + count > share * len(groups) or len(held) + 1 == len(counts):
            break
        held.add(name)
        taken += count
    return held
