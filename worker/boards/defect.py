"""A defect: its type, where it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Lang = Literal["zh", "en"]

TYPES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
"""in DeepPCB's order: its number 1 is the first"""

NAMES: dict[str, dict[Lang, str]] = {
    "open": {"en": "open", "zh": "断路"},
    "short": {"en": "short", "zh": "短路"},
    "mousebite": {"en": "mousebite", "zh": "鼠咬"},
    "spur": {"en": "spur", "zh": "毛刺"},
    "copper": {"en": "spurious copper", "zh": "残铜"},
    "pin-hole": {"en": "pin-hole", "zh": "针孔"},
}

HINTS: dict[str, dict[Lang, str]] = {
    "open": {
        "en": "bridge the gap with wire or conductive paste, then test the net for continuity",
        "zh": "用导线或导电胶补线, 然后测试该网络是否导通",
    },
    "short": {
        "en": "cut the copper between the two conductors, then test that they are insulated",
        "zh": "割断两导体之间的铜, 然后测试二者是否绝缘",
    },
    "mousebite": {
        "en": "measure the width that is left; reinforce the conductor if it is below the rule",
        "zh": "测量剩余线宽; 低于规范时补强导体",
    },
    "spur": {
        "en": "scrape the spur off until the distance to its neighbour is within the rule",
        "zh": "刮除毛刺, 直到与相邻导体的间距符合规范",
    },
    "copper": {
        "en": "scrape the island of copper off and clean the place",
        "zh": "刮除残铜并清洁该处",
    },
    "pin-hole": {
        "en": "measure the hole; fill it if it takes more of the conductor than the rule allows",
        "zh": "测量孔径; 超出规范时填补",
    },
}


@dataclass(frozen=True, slots=True)
class Box:
    """In pixels of the picture, the right and lower edges excluded."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def iou(self, other: Box) -> float:
        """What both cover of what either covers."""
        common = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )
        return common.area / ((self.area + other.area - common.area) or 1.0)


@dataclass(frozen=True, slots=True)
class Defect:
    type: str
    box: Box
    confidence: float = 1.0
