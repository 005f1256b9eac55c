"""What a model is asked about a clip, and the form its answer must have."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from worker.ghosts.words import KINDS, RISKS, Lang
from worker.items import Json

TEXTS = ("start_time", "end_time", "object_type", "description", "risk_level", "impact")
"""keys of an incident"""
TEXT_MOST, INCIDENTS_MOST = 400, 8
"""letters of a text, and incidents of a clip"""


def ask(lang: Lang, frames: int, duration_s: float) -> str:
    """The times of the frames are not in it: each engine tells them in its model's own way."""
    return _text("ask", lang).format(frames=frames, duration=f"{duration_s:.1f}")


def ask_again(lang: Lang, prompt: str, why: str) -> str:
    return prompt + _text("repair", lang).format(why=why)


@cache
def schema(lang: Lang) -> Json:
    """Every key is required, and there are no others; and no more is said than can be read."""
    of_incident: dict[str, Json] = {key: {"type": "string", "maxLength": TEXT_MOST} for key in TEXTS}
    of_incident["start_time"] = of_incident["end_time"] = {"type": "string", "pattern": r"^\d{1,4}(\.\d)?s$"}
    of_incident["object_type"] = {"type": "string", "enum": [KINDS[kind][lang] for kind in KINDS]}
    of_incident["risk_level"] = {"type": "string", "enum": [RISKS[risk][lang] for risk in RISKS]}
    return _object(
        {
            "ghost_probing_detected": {"type": "boolean"},
            "incidents": {"type": "array", "items": _object(of_incident), "maxItems": INCIDENTS_MOST},
        }
    )


def _object(properties: dict[str, Json]) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@cache
def _text(name: Literal["ask", "repair"], lang: Lang) -> str:
    return (files("worker.ghosts") / "prompts" / f"{name}.{lang}.txt").read_text("utf-8").rstrip("\n")
