"""This machine's Ascend cards, out of the two tables that npu-smi prints: it has no other form."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from worker.errors import MachineError
from worker.gpus import tools
from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import ASCEND, named

MIB = 1.048576e-3
"""GB"""
ILL = ("Alarm", "Critical", "UNKNOWN", "Offline")
"""of a Warning the card still computes"""

_FIRST = re.compile(r"(\d+)\s+(\S+)")
_SECOND = re.compile(r"(\d+)(?:\s+(\d+))?")
_SIZES = re.compile(r"(\d+)\s*/\s*(\d+)")


class NpuSmi:
    def __init__(self, name: str, ask: tools.Ask = tools.ask) -> None:
        self._name = name
        self._ask = ask

    def look(self) -> Sequence[Node]:
        told = tools.text(self._ask, "npu-smi", "info")
        if told is None:
            return []
        cards = tuple(self._cards(told))
        if not cards:
            raise MachineError(f"npu-smi info printed a table that is not understood: {told.strip()[:80]!r}")
        return [Node(self._name, cards)]

    def _cards(self, told: str) -> Iterator[Card]:
        """Two lines a chip; the numbers of ASCEND_RT_VISIBLE_DEVICES count them as they stand here."""
        chips, _, tenants = told.partition("Process id")
        processes = _processes(tenants)
        above: tuple[str, str, str] | None = None
        index = 0
        for cells in _rows(chips):
            if len(cells) != 3:
                above = None
            elif above is None and (first := _FIRST.fullmatch(cells[0])):
                above = first[1], first[2], cells[1]
            elif above and (second := _SECOND.fullmatch(cells[0])):
                yield self._card(index, above, second[1], cells, processes)
                index, above = index + 1, None
            else:
                above = None

    def _card(
        self,
        index: int,
        above: tuple[str, str, str],
        chip: str,
        cells: Sequence[str],
        processes: Mapping[tuple[str, str], Sequence[int]],
    ) -> Card:
        number, kind, health = above
        # the memory of older chips stands in front of the one of newer ones, which is 0 there
        used, total = max(((int(a), int(b)) for a, b in _SIZES.findall(cells[2])), key=lambda size: size[1])
        busy = re.match(r"\d+", cells[2])
        place = cells[1].lower() if ":" in cells[1] else f"npu-{number}-{chip}"
        return Card(
            node=self._name,
            index=index,
            uuid=f"{self._name}/{place}",
            kind=named(kind),
            maker=ASCEND,
            memory_gb=total * MIB,
            used_gb=used * MIB,
            busy=min(int(busy[0]) / 100, 1.0) if busy else 0.0,
            processes=tuple(sorted(processes[number, chip])),
            trouble=f"npu-smi calls its health {health}" if health in ILL else "",
        )


def _processes(table: str) -> Mapping[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for cells in _rows(table):
        if (place := re.fullmatch(r"(\d+)\s+(\d+)", cells[0])) and len(cells) > 1 and cells[1].isdecimal():
            found[place[1], place[2]].append(int(cells[1]))
    return found


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.splitlines():
        if line.strip().startswith("|"):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]
