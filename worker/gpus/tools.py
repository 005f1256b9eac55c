"""A maker's own program, asked once: what it printed, or the line that says why that is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from worker.errors import MachineError
from worker.hardware import command
from worker.hardware.command import Said

LIMIT_S = 20.0
"""a driver that hangs keeps its program for ever"""

Ask = Callable[[Sequence[str]], Said | None]


def ask(words: Sequence[str]) -> Said | None:
    """None: there is no such program."""
    return command.ask(words, LIMIT_S)


def text(ask: Ask, *words: str) -> str | None:
    said = ask(words)
    if said is not None and said.code:
        raise MachineError(f"{words[0]} does not tell its cards: {said.last}")
    return said.out if said else None


def told(ask: Ask, *words: str) -> Any:
    """Its JSON, behind the warnings that may stand in front of it."""
    out = text(ask, *words)
    if out is None:
        return None
    try:
        return json.loads(out[max(out.find("{"), 0) :])
    except ValueError as error:
        raise MachineError(f"{' '.join(words)} printed no JSON: {out.strip()[:80]!r}") from error
