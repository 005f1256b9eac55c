"""What every form of data set becomes: pictures, each of a split, and the boxes that its labels say."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from worker.errors import ItemError

NO_DATA = "no-data"
TRAIN, VAL, TEST = "train", "val", "test"


class Box(NamedTuple):
    kind: int
    """its class: a place in DataSet.classes, if it is a right one"""
    left: float
    top: float
    right: float
    bottom: float
    line: int
    """of its labels, from 1; in COCO's JSON the annotation's id"""


@dataclass(frozen=True, slots=True)
class Fault:
    check: str
    split: str
    file: str
    """below the root"""
    line: int
    """0: all of it"""
    why: str


@dataclass(frozen=True, slots=True)
class Labels:
    file: str
    boxes: Sequence[Box]
    faults: Sequence[Fault] = ()
    shares: bool = False
    """sides are told as shares of the picture's, and not in pixels"""


@dataclass(frozen=True, slots=True)
class Picture:
    split: str
    name: str
    """below the root"""
    file: Path
    labels: Callable[[], Labels | None]
    """None: there are none, which is not to say that nothing is in it"""
    size: tuple[int, int] | None = None
    """width and height that its labels were made for, if they say so"""


@dataclass(frozen=True, slots=True)
class DataSet:
    root: Path
    classes: Sequence[str]
    pictures: Sequence[Picture]
    faults: Sequence[Fault] = field(default_factory=list)
    """found before a picture was looked at"""


class Root:
    """Nothing is read that lies outside of it, by whatever path or link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._known: dict[Path, bool] = {}

    def holds(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.folder)
        except (OSError, RuntimeError, ValueError):  # links in a circle, a byte that no name has
            return False

    def holds_file(self, path: Path) -> bool:
        """As quickly as a hundred thousand need it: each folder is resolved once."""
        try:
            if path.name == ".." or path.is_symlink():
                return self.holds(path)
        except (OSError, ValueError):
            return False
        if path.parent not in self._known:
            self._known[path.parent] = self.holds(path.parent)
        return self._known[path.parent]

    def require(self, path: Path, where: str) -> Path:
        if not self.holds(path):
            raise ItemError(
                "outside-root",
                f"{where} names {path}, which is outside of {self.folder}: name the folder that all of the "
                "data lies in with root=",
            )
        return path

    def name(self, path: Path) -> str:
        """For people, and for what is written."""
        whole = Path(os.path.normpath(path))
        below = whole.relative_to(self.folder) if whole.is_relative_to(self.folder) else whole
        return writable(below.as_posix())


def writable(text: str) -> str:
    """Without halves of letters, which no file can hold: of names on a disk, and of JSON's escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def outside(split: str, file: str, line: int, named: str) -> Fault:
    return Fault("outside-root", split, file, line, f"{named[:200]} is outside of the root")


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ItemError(NO_DATA, f"{file} cannot be read: {error.strerror}") from None
