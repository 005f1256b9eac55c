"""This machine's NVIDIA cards, as the driver's own library (NVML) tells them."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker.errors import MachineError
from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import NVIDIA, named
from worker.gpus.nvidia_figures import Xids, measure, processes

NUMA_WORDS = 2
"""of 64 bits, one bit a NUMA node"""

Bus = tuple[int, int, int]


class ThisMachine:
    def __init__(self, nvml: Any = None, name: str = "") -> None:
        self._nvml = nvml
        self._name = name or socket.gethostname()
        self._xids = Xids()

    def look(self) -> Sequence[Node]:
        nvml = self._nvml or _library()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise MachineError(f"the NVIDIA driver does not answer: {error}; look at nvidia-smi") from error
        try:
            return [Node(self._name, tuple(_Reader(nvml, self._name, self._xids.look(nvml)).cards()))]
        except nvml.NVMLError as error:
            raise MachineError(f"the NVIDIA driver does not tell its cards: {error}") from error
        finally:
            nvml.nvmlShutdown()


def _library() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise MachineError(
            "nvidia-ml-py is not installed: pip install --no-deps -r env/locks/gpus.txt"
        ) from error


class _Reader:
    def __init__(self, nvml: Any, node: str, xids: Mapping[str, int] | None) -> None:
        self._nvml = nvml
        self._node = node
        self._xids = xids

    def cards(self) -> Iterator[Card]:
        """A card that fell off the bus takes none of the others with it."""
        nvml = self._nvml
        handles: dict[int, Any] = {}
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
            except nvml.NVMLError as error:
                yield self._lost(index, error)
        places = {index: self._ask("PciInfo", handle) for index, handle in handles.items()}
        buses = {_bus(place): index for index, place in places.items() if place}
        for index, handle in handles.items():
            try:
                yield from self._card(index, handle, buses)
            except nvml.NVMLError as error:
                yield self._lost(index, error)

    def _lost(self, index: int, error: Exception) -> Card:
        return Card(self._node, index, f"{self._node}/lost-{index}", "", NVIDIA, 0.0, trouble=str(error))

    def _card(self, index: int, handle: Any, buses: Mapping[Bus, int]) -> Sequence[Card]:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        load = self._ask("UtilizationRates", handle)
        whole = Card(
            node=self._node,
            index=index,
            uuid=nvml.nvmlDeviceGetUUID(handle),
            kind=named(nvml.nvmlDeviceGetName(handle)),
            maker=NVIDIA,
            memory_gb=memory.total / 1e9,
            used_gb=memory.used / 1e9,
            busy=load.gpu / 100 if load else None,
            numa=self._numa(handle),
            links=tuple(sorted(self._links(handle, buses) - {index})),
            processes=self._processes(handle),
            trouble=self._trouble(handle),
            figures=measure(nvml, self._ask, handle, self._xids),
        )
        # with MIG a card computes in its slices alone
        sliced = self._ask("MigMode", handle)
        return list(self._slices(handle, whole)) if sliced and sliced[0] else [whole]

    def _slices(self, handle: Any, whole: Card) -> Iterator[Card]:
        for number in range(self._ask("MaxMigDeviceCount", handle) or 0):
            part = self._ask("MigDeviceHandleByIndex", handle, number)
            if part is None:
                continue
            memory = self._nvml.nvmlDeviceGetMemoryInfo(part)
            yield Card(
                node=whole.node,
                index=whole.index,
                uuid=self._nvml.nvmlDeviceGetUUID(part),
                kind=whole.kind,
                maker=NVIDIA,
                memory_gb=memory.total / 1e9,
                used_gb=memory.used / 1e9,
                numa=whole.numa,
                processes=self._processes(part),
                trouble=whole.trouble,
                figures=replace(
                    whole.figures,
                    instance=self._ask("GpuInstanceId", part),
                    power_w=None,  # the whole card's
                    processes=processes(self._ask, part),
                ),
            )

    def _links(self, handle: Any, buses: Mapping[Bus, int]) -> set[int]:
        """Over bridges a link ends at a card; over a switch all that have such links reach each other."""
        found: set[int] = set()
        for link in range(self._nvml.NVML_NVLINK_MAX_LINKS):
            if not self._ask("NvLinkState", handle, link):
                continue
            if other := self._ask("NvLinkRemotePciInfo", handle, link):
                found |= {buses[_bus(other)]} if _bus(other) in buses else set(buses.values())
        return found

    def _numa(self, handle: Any) -> int | None:
        words = self._ask("MemoryAffinity", handle, NUMA_WORDS, self._nvml.NVML_AFFINITY_SCOPE_NODE)
        bits = sum(word << 64 * number for number, word in enumerate(words or ()))
        return (bits & -bits).bit_length() - 1 if bits else None

    def _processes(self, handle: Any) -> tuple[int, ...]:
        return tuple(sorted(one.pid for one in self._ask("ComputeRunningProcesses", handle) or ()))

    def _trouble(self, handle: Any) -> str:
        if rows := self._ask("RemappedRows", handle):
            _, uncorrectable, pending, failed = rows
            if failed:
                return "row remapping failed: the card has to be replaced"
            if pending and uncorrectable:
                return "rows wait to be remapped: reset the card"
        lasting, volatile = self._nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self._nvml.NVML_VOLATILE_ECC
        errors = self._ask("TotalEccErrors", handle, lasting, volatile)
        return f"{errors} uncorrectable memory errors since the driver was loaded" if errors else ""

    def _ask(self, what: str, *about: Any) -> Any:
        """None: this card does not say such things."""
        try:
            return getattr(self._nvml, f"nvmlDeviceGet{what}")(*about)
        except self._nvml.NVMLError:
            return None


def _bus(pci: Any) -> Bus:
    return pci.domain, pci.bus, pci.device
