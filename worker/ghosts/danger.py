"""How dangerous an emergence was: stated rules over its evidence."""

from __future__ import annotations

from typing import Literal

from worker.ghosts.incident import Incident

Risk = Literal["high", "medium", "low"]

BRAKING_S = 1.5
"""less time than a driver takes to see, decide and brake"""
NOTICE_S = 3.0
"""up to here a driver brakes hard, beyond it there is time"""


def risk(incident: Incident) -> Risk:
    """By the time that is left when it is in the way, or, where an engine cannot tell that, by its side."""
    left = incident.evidence.time_to_collision_s
    if left is None:
        return "medium" if incident.evidence.side == "ahead" else "low"
    if left <= BRAKING_S:
        return "high"
    return "medium" if left <= NOTICE_S else "low"
