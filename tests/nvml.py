"""The driver's library as it answers on a machine that a file describes: tests/data/nvml/*.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).with_name("data") / "nvml"


class NVMLError(Exception):
    pass


class Nvml:
    """`{"cards": [{"Name": …, "NvLinkState": [true, …]}]}`: what is absent is not supported."""

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 18
    NVML_AFFINITY_SCOPE_NODE = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_ERROR_TIMEOUT = 10
    nvmlEventTypeXidCriticalError = 8  # noqa: N815

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.open = 0

    @classmethod
    def of(cls, name: str) -> Nvml:
        return cls(json.loads((FOLDER / f"{name}.json").read_text("utf-8")))

    def nvmlInit(self) -> None:  # noqa: N802
        if "error" in self.told:
            raise NVMLError(self.told["error"])
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlEventSetCreate(self) -> Any:  # noqa: N802
        raise NVMLError("Not Supported")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.told["cards"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        card: dict[str, Any] = self.told["cards"][index]
        if "error" in card:
            raise NVMLError(card["error"])
        return card

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
        slices: list[dict[str, Any]] = card.get("slices", [])
        if index >= len(slices):
            raise NVMLError("Not Found")
        return slices[index]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(card: dict[str, Any], *about: int) -> Any:
            what = name.removeprefix("nvmlDeviceGet")
            if what not in card:
                raise NVMLError("Not Supported")
            value = card[what]
            if what.startswith("NvLink"):
                if about[0] >= len(value):
                    raise NVMLError("Invalid Argument")
                value = value[about[0]]
            return json.loads(json.dumps(value), object_hook=lambda pairs: SimpleNamespace(**pairs))

        return answer
