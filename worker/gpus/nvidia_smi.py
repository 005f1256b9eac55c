"""This machine's NVIDIA cards where only nvidia-smi tells them, not the driver's library."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from worker.errors import MachineError
from worker.gpus import tools
from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import NVIDIA, named

FIELDS = "index,uuid,name,memory.total,memory.used,utilization.gpu,ecc.errors.uncorrected.volatile.total"
CSV = "--format=csv,noheader,nounits"
CARDS = ("nvidia-smi", f"--query-gpu={FIELDS}", CSV)
TENANTS = ("nvidia-smi", "--query-compute-apps=gpu_uuid,pid", CSV)
LIST = ("nvidia-smi", "-L")
MIB = 1.048576e-3
"""GB"""


class NvidiaSmi:
    def __init__(self, name: str, ask: tools.Ask = tools.ask) -> None:
        self._name = name
        self._ask = ask

    def look(self) -> Sequence[Node]:
        told = tools.text(self._ask, *CARDS)
        if told is None:
            return []
        tenants = _tenants(tools.text(self._ask, *TENANTS) or "")
        slices = _slices(tools.text(self._ask, *LIST) or "")
        cards = [
            card
            for line in told.splitlines()
            if line.strip()
            for card in self._card([cell.strip() for cell in line.split(",")], tenants, slices)
        ]
        return [Node(self._name, tuple(cards))]

    def _card(
        self,
        cells: Sequence[str],
        tenants: Mapping[str, Sequence[int]],
        slices: Mapping[str, Mapping[str, float]],
    ) -> Sequence[Card]:
        if len(cells) != len(FIELDS.split(",")) or not cells[0].isdecimal():
            raise MachineError(f"nvidia-smi printed a line that is not understood: {', '.join(cells)[:80]!r}")
        index, uuid, name, total, used, busy, errors = cells
        trouble = "" if total.isdecimal() else f"nvidia-smi does not tell its memory: {total}"
        if errors.isdecimal() and int(errors):
            trouble = f"{errors} uncorrectable memory errors since the driver was loaded"
        parts = slices.get(uuid) or {uuid: _number(total) * MIB}
        return [
            Card(
                node=self._name,
                index=int(index),
                uuid=part,
                kind=named(name),
                maker=NVIDIA,
                memory_gb=memory,
                used_gb=_number(used) * MIB if part == uuid else 0.0,
                busy=_number(busy) / 100 if part == uuid else 0.0,
                processes=tuple(sorted(tenants.get(part, ()))),
                trouble=trouble,
            )
            for part, memory in parts.items()
        ]


def _tenants(told: str) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for uuid, _, pid in (line.partition(",") for line in told.splitlines()):
        if pid.strip().isdecimal():
            found[uuid.strip()].append(int(pid))
    return found


def _slices(told: str) -> Mapping[str, Mapping[str, float]]:
    """Cards in slices → the slices' names and GB: of a card that has some only they compute."""
    found: dict[str, dict[str, float]] = {}
    whole = ""
    for line in told.splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            whole = gpu[1]
        elif part := re.match(r"\s+MIG \S*?(\d+)gb\S*\s.*\(UUID: (MIG-[^)]+)\)", line):
            found.setdefault(whole, {})[part[2]] = float(part[1])
    return found


def _number(said: str) -> float:
    return float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else 0.0
