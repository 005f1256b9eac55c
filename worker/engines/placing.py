"""On which cards a model's weights go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.engines.device import Device
from worker.errors import MachineError

_WORK = 0.1
"""the share of a card's memory without which nothing can be computed"""


@dataclass(frozen=True, slots=True)
class Place:
    devices: Sequence[Device]
    why: str

    @property
    def options(self) -> dict[str, Any]:
        """of from_pretrained"""
        if len(self.devices) == 1:
            return {"device_map": {"": self.devices[0].place}}
        room = {int(one.place.rpartition(":")[2]): _room(one) for one in self.devices}
        return {"device_map": "auto", "max_memory": room}


def choose(need: int, devices: Iterable[Device], what: str) -> Place:
    """One if it holds the model, else all of them. `devices` are looked at no further than it takes."""
    seen: list[Device] = []
    for device in devices:
        seen.append(device)
        if device.free is None or need <= _room(device):
            place = Place([device], "it fits there")
            return place if device is seen[0] else Place([device], f"it does not fit {seen[0].place}")
    if len(seen) > 1 and need <= sum(map(_room, seen)):
        return Place(seen, "one alone does not hold it")
    raise too_large(what, need, seen)


def too_large(what: str, need: int, devices: Sequence[Device]) -> MachineError:
    free = ", ".join(f"{one.place} ({one.name}) {(one.free or 0) / 1e9:.1f} GB" for one in devices)
    return MachineError(
        f"{what} needs {need / 1e9:.1f} GB for its weights and some to work; free are {free or 'none'}: end "
        "what else runs there, take a larger card or several, or a quantised model"
    )


def _room(device: Device) -> int:
    return round((device.free or 0) - _WORK * (device.total or 0))
