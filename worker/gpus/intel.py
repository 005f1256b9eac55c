"""This machine's Intel cards, as xpu-smi tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from worker.errors import MachineError
from worker.gpus import tools
from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import INTEL, named

SMI = "xpu-smi"
ILL = "Critical"


class XpuSmi:
    def __init__(self, name: str, ask: tools.Ask = tools.ask) -> None:
        self._name = name
        self._ask = ask

    def look(self) -> Sequence[Node]:
        told = self._told("discovery")
        if told is None:
            return []
        # a virtual function is a machine's that runs on this one
        found = [one for one in told["device_list"] if one.get("device_function_type") != "virtual"]
        tenants = (self._told("ps") or {}).get("device_util_by_proc_list", [])
        with ThreadPoolExecutor(8) as pool:
            return [Node(self._name, tuple(pool.map(lambda one: self._card(one, tenants), found)))]

    def _card(self, one: Mapping[str, Any], tenants: Sequence[Mapping[str, Any]]) -> Card:
        """A card that does not answer takes none of the others with it."""
        number = one["device_id"]
        processes = {
            int(tenant["process_id"])
            for tenant in tenants
            if tenant["device_id"] == number and tenant.get("process_name") != SMI
        }
        facts: Mapping[str, Any] = {}
        busy, trouble = 0.0, ""
        try:
            facts = self._told("discovery", "-d", str(number))
            busy, trouble = self._busy(number), self._trouble(number)
        except MachineError as error:
            trouble = str(error)
        total = float(facts.get("memory_physical_size_byte") or 0)
        return Card(
            node=self._name,
            index=number,
            uuid=f"{self._name}/{one['uuid']}",
            kind=named(str(one["device_name"]).replace("(R)", "").replace("(TM)", "")),
            maker=INTEL,
            memory_gb=total / 1e9,
            used_gb=max(total - float(facts.get("memory_free_size_byte") or total), 0.0) / 1e9,
            busy=busy,
            processes=tuple(sorted(processes)),
            trouble=trouble or ("" if total else f"{SMI} does not tell its memory"),
        )

    def _busy(self, number: int) -> float:
        levels = self._told("stats", "-d", str(number)).get("device_level", [])
        values = {one["metrics_type"]: one.get("value", 0) for one in levels}
        return min(float(values.get("XPUM_STATS_GPU_UTILIZATION", 0)) / 100, 1.0)

    def _trouble(self, number: int) -> str:
        health = self._told("health", "-d", str(number))
        parts = {part: said for part, said in health.items() if isinstance(said, dict)}
        ill = [
            f"{part.replace('_', ' ')}: {said.get('description') or ILL}"
            for part, said in parts.items()
            if said.get("status") == ILL
        ]
        return "; ".join(ill)

    def _told(self, *words: str) -> Any:
        told = tools.told(self._ask, SMI, *words, "-j")
        if isinstance(told, dict) and "error" in told:
            raise MachineError(f"{SMI} {' '.join(words)}: {told['error']}")
        return told
