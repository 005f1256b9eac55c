"""What a model says of a clip, read strictly: nothing is guessed, and what is odd about it is said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker.engines.reply import UnreadableError, json_of
from worker.ghosts.prompt import TEXTS
from worker.ghosts.words import RISKS, Lang
from worker.items import Json

_SECONDS = re.compile(r"(?:(\d{1,4}):)?(\d{1,6}(?:\.\d{1,9})?)\s*(?:s|秒)?", re.ASCII)
_TOLERANCE_S = 0.05
"""times are told with one digit behind the point"""


@dataclass(frozen=True, slots=True)
class Said:
    detected: bool
    incidents: Sequence[Mapping[str, Json]]
    """with the keys of prompt.TEXTS"""
    doubts: Sequence[str]
    """what in it cannot be right"""


def read_reply(text: str, duration_s: float, lang: Lang) -> Said:
    document = _document(text)
    detected = document.get("ghost_probing_detected")
    incidents = document.get("incidents")
    if not isinstance(detected, bool):
        raise UnreadableError("ghost_probing_detected is not true or false")
    if not isinstance(incidents, list):
        raise UnreadableError("incidents is not a list")
    doubts: list[str] = []
    if detected != bool(incidents):
        doubts.append(f"ghost_probing_detected is {json.dumps(detected)} with {len(incidents)} incidents")
    told = [_incident(one, number, duration_s, lang, doubts) for number, one in enumerate(incidents, 1)]
    return Said(detected, told, doubts)


def _document(text: str) -> Mapping[str, Json]:
    document = json_of(text)
    if not isinstance(document, dict):
        raise UnreadableError("it is no JSON object")
    return document


def _incident(one: Json, number: int, duration_s: float, lang: Lang, doubts: list[str]) -> dict[str, Json]:
    if not isinstance(one, dict):
        raise UnreadableError(f"incident {number} is no object")
    if missing := [key for key in TEXTS if type(one.get(key)) not in (str, int, float)]:
        raise UnreadableError(f"incident {number} lacks {', '.join(missing)}")
    start, end = (_seconds(one[key], f"incident {number}: {key}") for key in ("start_time", "end_time"))
    said = {key: str(one[key]).strip() for key in TEXTS}
    risk = _risk(said["risk_level"], lang)
    doubts += [f"incident {number}: {doubt}" for doubt in _doubts(start, end, duration_s)]
    if risk is None:
        doubts.append(f"incident {number}: risk_level '{said['risk_level'][:40]}' is unknown")
    return {
        **said,
        "start_time": f"{start:.1f}s",
        "end_time": f"{end:.1f}s",
        "risk_level": risk or said["risk_level"],
    }


def _doubts(start: float, end: float, duration_s: float) -> Iterator[str]:
    for key, time in (("start_time", start), ("end_time", end)):
        if time > duration_s + _TOLERANCE_S:
            yield f"{key} {time:.1f}s is beyond the clip's {duration_s:.1f}s"
    if end < start:
        yield f"it ends at {end:.1f}s, before it starts at {start:.1f}s"


def _risk(said: str, lang: Lang) -> str | None:
    """In the language wanted, whichever of them the model used."""
    return next((words[lang] for words in RISKS.values() if said.lower() in words.values()), None)


def _seconds(said: Json, what: str) -> float:
    """12.4, "12.4s", "12.4", "0:12.4"; anything else is no time."""
    found = _SECONDS.fullmatch(str(said).strip().lower())
    if found is None:
        raise UnreadableError(f"{what} '{str(said)[:40]}' is no time in seconds")
    return 60.0 * int(found[1] or 0) + float(found[2])
