"""What a model is asked about a clip, and the form its answer must have."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from worker.ghosts.words import KINDS, RISKS, Lang
from worker.items import Json

TEXTS = ("start_time", "end_time", "object_type", "description", "risk_level", "impact")
"""keys of an incident"""


def ask(lang: Lang, frames: int, duration_s: float) -> str:
    """The times of the frames are not in it: each engine tells them in its model's own way."""
    return _text("ask", lang).format(frames=frames, duration=f"{duration_s:.1f}")


def ask_again(lang: Lang, prompt: str, why: str) -> str:
    return prompt + _text("repair", lang).format(why=why)


@cache
def schema(lang: Lang) -> Json:
    """Strict in the sense of OpenAI's structured outputs: every key is required, and there are no others."""
    text = {"type": "string"}
    of_incident: dict[str, Json] = dict.fromkeys(TEXTS, text)
    of_incident["object_type"] = {"type": "string", "enum": [KINDS[kind][lang] for kind in KINDS]}
    of_incident["risk_level"] = {"type": "string", "enum": [RISKS[risk][lang] for risk in RISKS]}
    return _object(
        {
            "ghost_probing_detected": {"type": "boolean"},
            "incidents": {"type": "array", "items": _object(of_incident)},
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
