"""Which engine a person chose. Nothing heavy is imported here: enqueue and the parent need it too."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from worker.engines.engine import Engine


LOCAL = ("qwen", "videochat2")
"""engines that compute on a GPU of this machine"""


@dataclass(frozen=True, slots=True)
class Choice:
    engine: str
    model: str | None = None
    revision: str | None = None
    file: Path | None = None
    """where the model lies on this machine: its file, or its folder"""
    quantise: Literal["none", "nf4"] = "none"
    screen: Choice | None = None
    """who looks first, and lets only to this one what he finds suspicious"""


def engine_type(where: str) -> type[Engine]:
    """`module:Class`"""
    module, _, name = where.partition(":")
    found: Any = getattr(importlib.import_module(module), name)
    return found  # type: ignore[no-any-return]
