"""This machine's AMD cards: what they are from rocm-smi, who computes on them from the kernel's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import MachineError
from worker.gpus import tools
from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import AMD, named

QUESTION = (
    "rocm-smi",
    "--showproductname",
    "--showbus",
    "--showuse",
    "--showmeminfo",
    "vram",
    "--json",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel says of a card."""

    number: int
    """as HIP counts"""
    processes: tuple[int, ...]


class Rocm:
    def __init__(self, name: str, ask: tools.Ask = tools.ask, sys: Path = Path("/sys")) -> None:
        self._name = name
        self._ask = ask
        self._sys = sys

    def look(self) -> Sequence[Node]:
        told = tools.told(self._ask, *QUESTION)
        seen = self._seen()
        if told is None:
            if seen:
                raise MachineError(
                    f"{len(seen)} AMD cards are here, but no rocm-smi: put ROCm's bin into PATH"
                )
            return []
        cards = [
            self._card(int(key[4:]), fields, seen)
            for key, fields in told.items()
            if re.fullmatch(r"card\d+", key)
        ]
        return [Node(self._name, tuple(cards))]

    def _card(self, number: int, fields: Mapping[str, str], seen: Mapping[str, Seen]) -> Card:
        plain = {key.casefold(): value for key, value in fields.items()}  # releases differ in capitals
        bus = plain["pci bus"].lower()
        total = _number(plain.get("vram total memory (b)"))
        here = seen.get(bus, Seen(number, ()))
        trouble = self._trouble(bus)
        if seen and bus not in seen:
            trouble = "the kernel does not compute on it: look at dmesg for amdgpu"
        return Card(
            node=self._name,
            index=here.number,
            uuid=f"{self._name}/{bus}",
            kind=_kind(plain.get("card series") or plain.get("device name") or ""),
            maker=AMD,
            memory_gb=total / 1e9,
            used_gb=_number(plain.get("vram total used memory (b)")) / 1e9,
            busy=min(_number(plain.get("gpu use (%)")) / 100, 1.0),
            numa=_numa(self._sys / "bus/pci/devices" / bus / "numa_node"),
            processes=here.processes,
            trouble=trouble or ("" if total else "rocm-smi does not tell its memory"),
        )

    def _trouble(self, bus: str) -> str:
        counted = _read(self._sys / "bus/pci/devices" / bus / "ras/umc_err_count")
        found = re.search(r"^ue:\s*(\d+)", counted, re.MULTILINE)
        return f"{found[1]} uncorrectable memory errors" if found and int(found[1]) else ""

    def _seen(self) -> Mapping[str, Seen]:
        """By the place on the bus, in the order of the kernel's list, which is HIP's."""
        kfd = self._sys / "class/kfd/kfd"
        found: dict[str, Seen] = {}
        nodes = [node for node in (kfd / "topology/nodes").glob("*") if node.name.isdecimal()]
        for node in sorted(nodes, key=lambda node: int(node.name)):
            lines = map(str.split, _read(node / "properties").splitlines())
            facts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
            if facts.get("simd_count"):
                place = facts.get("location_id", 0)
                bus = f"{facts.get('domain', 0):04x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
                found[bus] = Seen(len(found), _processes(kfd / "proc", _read(node / "gpu_id").strip()))
        return found


def _processes(folder: Path, gpu: str) -> tuple[int, ...]:
    pids = (one for one in folder.glob("*") if one.name.isdecimal())
    return tuple(sorted(int(one.name) for one in pids if _number(_read(one / f"vram_{gpu}").strip())))


def _kind(series: str) -> str:
    """`AMD INSTINCT MI250 (MCM) OAM AC MBA`, `Arcturus GL-XL [Instinct MI100]`"""
    found = re.search(r"\bMI\d{2,3}[A-Z]?\b", series, re.IGNORECASE)
    return named(found[0] if found else series)


def _number(said: str | None) -> float:
    return float(said) if said and re.fullmatch(r"[0-9.]+", said) else 0.0


def _numa(file: Path) -> int | None:
    said = _read(file).strip()
    return int(said) if said.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
