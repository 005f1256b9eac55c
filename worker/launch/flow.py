"""A value as YAML on one line: what `render` writes, without a library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from worker.items import Json

PLAIN = re.compile(r"[A-Za-z][\w./:@-]*\w|[A-Za-z]|\d+[gs]", re.ASCII)
MEANT_OTHERWISE = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
"""what YAML takes for something else than a text"""


def flow(value: Json) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in MEANT_OTHERWISE:
        return value
    return "".join(map(_harmless, json.dumps(value, ensure_ascii=False)))


def _harmless(character: str) -> str:
    """JSON leaves some as they are that YAML refuses, or takes for the end of a line."""
    return character if character.isprintable() else f"\\U{ord(character):08x}"
