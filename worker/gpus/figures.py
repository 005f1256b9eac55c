"""What a card tells of itself beyond its load. None: it does not say, which is not 0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    pid: int
    used_gb: float | None = None
    busy: float | None = None
    """share of the time in which it computed lately"""


@dataclass(frozen=True, slots=True)
class Figures:
    model: str = ""
    """as its maker writes it"""
    pci_bus_id: str = ""
    device: str = ""
    """of the operating system: nvidia0"""
    instance: int | None = None
    """a slice's number on its card"""
    copying: float | None = None
    """share of the time in which its memory is read or written"""
    temperature_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    """of what computes"""
    xid: int | None = None
    """the driver's last word of an error since somebody watches; 0: none"""
    processes: tuple[ProcessFigures, ...] = ()


UNKNOWN = Figures()
