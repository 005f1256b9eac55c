"""The figures of an NVIDIA card, and the errors (XID) that its driver reports meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from worker.gpus.figures import Figures, ProcessFigures

LATELY_S = 30.0
"""samples of a process that are older tell of the past"""

Ask = Callable[..., Any]
"""NVML's nvmlDeviceGet…; None where the card does not say"""


def measure(nvml: Any, ask: Ask, handle: Any, xids: Mapping[str, int] | None) -> Figures:
    pci = ask("PciInfo", handle)
    minor = ask("MinorNumber", handle)
    load = ask("UtilizationRates", handle)
    milliwatts = ask("PowerUsage", handle)
    return Figures(
        model=ask("Name", handle) or "",
        pci_bus_id=f"{pci.domain:08X}:{pci.bus:02X}:{pci.device:02X}.0" if pci else "",
        device=f"nvidia{minor}" if minor is not None else "",
        copying=load.memory / 100 if load else None,
        temperature_c=ask("Temperature", handle, nvml.NVML_TEMPERATURE_GPU),
        power_w=milliwatts / 1000 if milliwatts is not None else None,
        clock_mhz=ask("ClockInfo", handle, nvml.NVML_CLOCK_SM),
        xid=xids.get(ask("UUID", handle), 0) if xids is not None else None,
        processes=processes(ask, handle),
    )


def processes(ask: Ask, handle: Any) -> tuple[ProcessFigures, ...]:
    since_us = int((time.time() - LATELY_S) * 1e6)
    samples = sorted(ask("ProcessUtilization", handle, since_us) or (), key=lambda one: one.timeStamp)
    busy = {one.pid: one.smUtil / 100 for one in samples}
    running = {one.pid: one.usedGpuMemory for one in ask("ComputeRunningProcesses", handle) or ()}
    return tuple(
        ProcessFigures(pid, None if used is None else used / 1e9, busy.get(pid))
        for pid, used in sorted(running.items())
    )


class Xids:
    """The driver tells an error once, to who listens then: so this stays open between two looks."""

    def __init__(self) -> None:
        self._events: Any = None
        self._last: dict[str, int] = {}

    def look(self, nvml: Any) -> Mapping[str, int] | None:
        """The last one of each card by its UUID. None: nobody can watch here."""
        try:
            if self._events is None:
                self._open(nvml)
            self._drain(nvml)
        except nvml.NVMLError:
            self.close(nvml)
            return None
        return self._last

    def close(self, nvml: Any) -> None:
        if self._events is None:
            return
        try:
            nvml.nvmlEventSetFree(self._events)
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            pass  # a driver that went away took it along
        self._events = None

    def _open(self, nvml: Any) -> None:
        events = nvml.nvmlEventSetCreate()
        nvml.nvmlInit()  # counted: others may close theirs
        self._events = events
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            except nvml.NVMLError:
                continue  # a card that fell off the bus

    def _drain(self, nvml: Any) -> None:
        while True:
            try:
                told = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError as error:
                if getattr(error, "value", None) == nvml.NVML_ERROR_TIMEOUT:
                    return
                raise
            self._last[nvml.nvmlDeviceGetUUID(told.device)] = int(told.eventData)
