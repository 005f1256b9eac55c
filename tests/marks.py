"""The marks in data/dada_marks.csv: who comes into the way of the car, when, where and from behind what."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DADA = Path(__file__).with_name("data") / "dada_marks.csv"
FRAME_WIDTH, FRAME_HEIGHT, FRAMES_PER_S = 1584, 660, 30


class Event(StrEnum):
    FIRST_SEEN = "first_seen"
    OCCLUDER = "occluder"
    TRACK = "track"
    ENTERS_PATH = "enters_path"
    HAZARD = "hazard"


class HiddenBy(StrEnum):
    PARKED_CAR = "parked car"
    QUEUED_CAR = "queued car"
    MOVING_CAR = "moving car"
    STANDING_SCOOTER = "standing scooter"
    HEDGE = "hedge"
    PILLAR = "pillar"
    FRAME_EDGE = "frame edge"
    NOTHING = "nothing"


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"


class Confidence(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    def touches(self, other: Box) -> bool:
        across = min(self.right, other.right) > max(self.x, other.x)
        return across and min(self.bottom, other.bottom) > max(self.y, other.y)


@dataclass(frozen=True)
class Mark:
    event: Event
    time_s: float
    box: Box
    object: str
    hidden_by: HiddenBy | None
    side: Side | None
    """None: it comes from ahead"""
    confidence: Confidence
    note: str


COLUMNS = ["video_id", "event", "time_s", "x", "y", "width", "height"]
COLUMNS += ["object", "hidden_by", "side", "confidence", "note"]


@dataclass(frozen=True)
class Clip:
    video_id: str
    marks: tuple[Mark, ...]
    """in the order of the file"""

    @property
    def has_ghost(self) -> bool:
        return bool(self.of(Event.FIRST_SEEN))

    @property
    def label_is_doubtful(self) -> bool:
        return self.marks[0].note.startswith("doubt:")

    def of(self, *events: Event) -> list[Mark]:
        return [mark for mark in self.marks if mark.event in events]


def read(lines: Iterable[str]) -> list[Clip]:
    """Refuses in one line what it does not know, with the number of the row."""
    table = csv.reader(lines, strict=True)
    if (header := next(table, [])) != COLUMNS:
        raise ValueError(f"columns {','.join(header)}; expected {','.join(COLUMNS)}")
    marks: dict[str, list[Mark]] = {}
    for number, cells in enumerate(table, start=2):
        try:
            row = dict(zip(COLUMNS, cells, strict=True))
            marks.setdefault(row["video_id"], []).append(_mark(row))
        except ValueError as wrong:
            raise ValueError(f"row {number}: {wrong}") from wrong
    return [Clip(video_id, tuple(found)) for video_id, found in marks.items()]


def read_dada() -> list[Clip]:
    with open(DADA, encoding="utf-8", newline="") as file:
        return read(file)


def _mark(row: dict[str, str]) -> Mark:
    return Mark(
        event=Event(row["event"]),
        time_s=float(row["time_s"]),
        box=Box(int(row["x"]), int(row["y"]), int(row["width"]), int(row["height"])),
        object=row["object"],
        hidden_by=HiddenBy(row["hidden_by"]) if row["hidden_by"] else None,
        side=Side(row["side"]) if row["side"] else None,
        confidence=Confidence(row["confidence"]),
        note=row["note"],
    )
