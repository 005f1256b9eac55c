"""What a check says: one line, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from worker.items import Json

Level: TypeAlias = Literal["ok", "warning", "blocker"]


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    found: str
    remedy: str = ""
    check: str = ""
    """its name, given by who called it"""

    def as_json(self) -> dict[str, Json]:
        return asdict(self)


def ok(found: str, remedy: str = "") -> Finding:
    return Finding("ok", found, remedy)


def warning(found: str, remedy: str) -> Finding:
    return Finding("warning", found, remedy)


def blocker(found: str, remedy: str) -> Finding:
    return Finding("blocker", found, remedy)
