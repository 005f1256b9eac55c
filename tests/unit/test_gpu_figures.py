"""What NVIDIA's driver tells of a card beyond its load, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.nvml import Nvml, NVMLError
from worker.gpus.figures import Figures, ProcessFigures
from worker.gpus.nvidia import ThisMachine


class Listening(Nvml):
    """A driver that reports errors to who listens."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.errors: list[tuple[int, int]] = []
        self.listening = self.away = False

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        return object()

    def nvmlEventSetFree(self, _events: object) -> None:  # noqa: N802
        self.listening = False

    def nvmlDeviceRegisterEvents(self, _card: dict[str, Any], _kinds: int, _events: object) -> None:  # noqa: N802
        self.listening = True

    def nvmlEventSetWait_v2(self, _events: object, _wait_ms: int) -> SimpleNamespace:  # noqa: N802
        if self.away:
            raise NVMLError("Driver Not Loaded")
        if not self.errors:
            error = NVMLError("Timeout")
            error.value = self.NVML_ERROR_TIMEOUT  # type: ignore[attr-defined]
            raise error
        index, xid = self.errors.pop(0)
        return SimpleNamespace(device=self.told["cards"][index], eventData=xid)


def card(number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "Name": "NVIDIA A100-SXM4-80GB",
        "UUID": f"GPU-{number}",
        "MemoryInfo": {"total": 85_899_345_920, "used": 1 << 30, "free": 0},
        "PciInfo": {"domain": 0, "bus": 0x87 + number, "device": 0},
        **more,
    }


def figures(machine: ThisMachine) -> list[Figures]:
    return [one.figures for one in machine.look()[0].cards]


def test_a_card_tells_its_figures() -> None:
    told = card(
        MinorNumber=3,
        UtilizationRates={"gpu": 97, "memory": 41},
        Temperature=63,
        PowerUsage=312_500,
        ClockInfo=1410,
        ComputeRunningProcesses=[
            {"pid": 12, "usedGpuMemory": 2_000_000_000},
            {"pid": 7, "usedGpuMemory": None},
        ],
        ProcessUtilization=[
            {"pid": 12, "timeStamp": 20, "smUtil": 90},
            {"pid": 12, "timeStamp": 10, "smUtil": 5},
            {"pid": 99, "timeStamp": 20, "smUtil": 3},
        ],
    )
    assert figures(ThisMachine(Nvml({"cards": [told]}), "here")) == [
        Figures(
            model="NVIDIA A100-SXM4-80GB",
            pci_bus_id="00000000:87:00.0",
            device="nvidia3",
            copying=0.41,
            temperature_c=63,
            power_w=312.5,
            clock_mhz=1410,
            processes=(ProcessFigures(7), ProcessFigures(12, 2.0, 0.9)),
        )
    ]


def test_what_it_does_not_tell_is_unknown_and_not_0() -> None:
    (node,) = ThisMachine(Nvml({"cards": [card()]}), "here").look()
    told = node.cards[0].figures
    assert node.cards[0].busy is None
    assert (told.copying, told.temperature_c, told.power_w, told.clock_mhz, told.xid) == (None,) * 5


def test_an_error_of_the_driver_stays_in_view_and_is_the_card_s_own() -> None:
    nvml = Listening({"cards": [card(0), card(1)]})
    machine = ThisMachine(nvml, "here")
    assert [one.xid for one in figures(machine)] == [0, 0]
    nvml.errors = [(1, 31), (1, 79)]
    assert [one.xid for one in figures(machine)] == [0, 79]
    assert [one.xid for one in figures(machine)] == [0, 79]


def test_a_driver_that_went_away_is_listened_to_again_when_it_is_back() -> None:
    nvml = Listening({"cards": [card()]})
    machine = ThisMachine(nvml, "here")
    machine.look()
    nvml.away = True
    assert [one.xid for one in figures(machine)] == [None]
    assert not nvml.listening
    nvml.away, nvml.errors = False, [(0, 48)]
    assert [one.xid for one in figures(machine)] == [48]
    assert nvml.open == 1, "what listens stays open, nothing else"


@pytest.mark.parametrize("name", ["v100-bridges", "a800-switch", "a100-slices"])
def test_a_driver_that_reports_no_errors_is_read_all_the_same(name: str) -> None:
    assert {one.xid for one in figures(ThisMachine(Nvml.of(name), "here"))} == {None}
