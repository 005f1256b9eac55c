"""The kinds of work that plans know, by name. Some of them the worker cannot do yet."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from worker.errors import UsageError
from worker.planning.work import Work
from worker.tasks import registry

KINDS = {
    "ghost-probing": "ghosts:GhostProbing",
    "pcb-train": "pcb:PcbTrain",
    "merge": "pcb:PcbMerge",
    "quantise": "pcb:PcbQuantise",
    "pcb-inspect": "pcb:PcbInspect",
    "detect-train": "detection:DetectionTrain",
    "detect-export": "detection:DetectionExport",
    "classify-train": "classification:ClassificationTrain",
    "mlp-train": "nets:MlpTrain",
}
_ALSO = {"pcb": ("merge", "quantise")}
"""its steps that are not its own"""


def of(work: str) -> list[str]:
    """`pcb` is all of its steps: its training, merging and what else."""
    also = _ALSO.get(work, ())
    return [name for name in KINDS if name == work or name.startswith(f"{work}-") or name in also]


def is_run(name: str) -> bool:
    """The worker does such work already."""
    return name in registry.names()


def find(name: str) -> type[Work[Any]]:
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"no plans are known for '{name}'{hint} There are: {', '.join(KINDS)}")
    module, _, kind = KINDS[name].partition(":")
    found: type[Work[Any]] = getattr(importlib.import_module(f"worker.planning.{module}"), kind)
    return found
