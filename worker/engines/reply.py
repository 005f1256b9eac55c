"""JSON in what a model said, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from worker.items import Json

_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


class UnreadableError(Exception):
    """It is not in the form that was asked for; the message says why."""

    def __init__(self, why: str, partly: Any = None) -> None:
        """`partly`: what can be read of it all the same."""
        super().__init__(why)
        self.partly = partly


def json_of(text: str) -> Json:
    """The one JSON value of the text, which may stand in a code fence, and behind a model's thoughts."""
    said = text.rpartition("</think>")[2].strip()
    fenced = _FENCED.fullmatch(said)
    try:
        found: Json = json.loads(
            fenced[1] if fenced else said, object_pairs_hook=_once, parse_constant=_no_constant
        )
        json.dumps(
            found, ensure_ascii=False
        ).encode()  # half of a surrogate pair is no text, and cannot be kept
    except ValueError as error:  # what json.loads raises, too
        raise UnreadableError(f"it is no JSON ({error})") from None
    except RecursionError:
        raise UnreadableError("it is no JSON (nested too deeply)") from None
    return found


def _once(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no number of JSON")
