"""What is promised of the rules of every engine that watches first and judges afterwards."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from worker.engines.choice import engine_type
from worker.engines.watching import Watching
from worker.tasks.ghost_probing import GhostProbing

AT_MOST = {"in_view_s", "beside"}
"""in these more is allowed the larger they are; all others are the least that it takes"""


def engines() -> dict[str, Any]:
    kinds = {name: engine_type(where) for name, where in GhostProbing.engines.items()}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, Watching)}


@pytest.mark.parametrize("name", engines())
def test_high_recall_proposes_all_that_balanced_does(name: str) -> None:
    rules = engines()[name].rules
    for field in fields(rules["balanced"]):
        balanced, high = (getattr(rules[recall], field.name) for recall in ("balanced", "high"))
        assert high >= balanced if field.name in AT_MOST else high <= balanced, field.name
