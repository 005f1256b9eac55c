"""The cards as NVIDIA's driver shows them: nvidia-smi asked, and its tables read."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from worker.doctor.facts import Capability, Card, Gpus, Tenant
from worker.hardware import gpus
from worker.hardware.cards import Machine
from worker.hardware.cards import cards as shown
from worker.hardware.command import Said, ask

FIELDS = (
    "index,name,uuid,driver_version,memory.total,memory.used,"
    "ecc.mode.current,ecc.errors.uncorrected.volatile.total,mig.mode.current"
)
OLD_FIELDS = FIELDS.removesuffix(",mig.mode.current")
"""a driver before 450 refuses the whole question for a field that it does not know"""
CSV = "--format=csv,noheader,nounits"
QUESTIONS: Mapping[str, Sequence[str]] = {
    "gpus": [f"--query-gpu={FIELDS}", CSV],
    "old": [f"--query-gpu={OLD_FIELDS}", CSV],
    "capability": ["--query-gpu=index,compute_cap", CSV],
    "apps": ["--query-compute-apps=gpu_uuid,pid,process_name,used_memory", CSV],
    "list": ["-L"],
    "links": ["topo", "-m"],
    "peers": ["topo", "-p2p", "r"],
}
LIMIT_S = 60.0
"""without its persistence daemon a driver wakes each card first"""
_CELL = re.compile(r"GPU(\d+)$")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Smi = Callable[[Sequence[str]], Said | None]


def look(
    smi: Smi | None = None, dev: Path = Path("/dev"), environment: Mapping[str, str] = os.environ
) -> Gpus:
    smi = smi or (lambda arguments: ask(["nvidia-smi", *arguments], LIMIT_S))
    nodes = sum(1 for node in dev.glob("nvidia[0-9]*") if node.name[6:].isdecimal())
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    first = smi(QUESTIONS["gpus"])
    if first is not None and first.code and "not a valid field" in first.out + first.error:
        first = smi(QUESTIONS["old"])
    if first is None or first.code:
        others = [card.label for card in shown(Machine(nvidia_smi=lambda: "")) if card.device != "cuda"]
        silence = None if first is None else first.last
        return Gpus(silence=silence, nodes=nodes, visible=visible, other=others)
    with ThreadPoolExecutor() as pool:
        rest = {name: pool.submit(smi, QUESTIONS[name]) for name in QUESTIONS if name not in ("gpus", "old")}
    said_of = {name: said.out for name, one in rest.items() if (said := one.result()) and not said.code}
    return read(first.out, said_of, nodes=nodes, visible=visible)


def read(listed: str, said: Mapping[str, str], *, nodes: int = 0, visible: str | None = None) -> Gpus:
    capabilities = _capabilities(said.get("capability", ""))
    tenants = _tenants(said.get("apps", ""))
    slices = _slices(said.get("list", ""))
    cards = [
        replace(
            card,
            capability=capabilities.get(card.index) or _by_name(card.name),
            tenants=tenants.get(card.uuid, ()),
            slices=slices.get(card.uuid, 0),
        )
        for card in _cards(listed)
    ]
    links, peers = matrix(said.get("links", "")), matrix(said.get("peers", ""))
    return Gpus(_ours(cards, visible), None, nodes, links, peers, visible)


def _ours(cards: Sequence[Card], visible: str | None) -> Sequence[Card]:
    """Those that a scheduler left us: nvidia-smi shows its neighbours' cards too."""
    names = [name.strip() for name in (visible or "").split(",")]
    ours = [card for card in cards if any(_is(card, name) for name in names)]
    return ours or cards


def _is(card: Card, name: str) -> bool:
    return name == str(card.index) or (name.startswith("GPU-") and card.uuid.startswith(name))


def _cards(text: str) -> Iterator[Card]:
    for index, name, uuid, driver, total, used, ecc, errors, *mig in _rows(text, 8):
        if (memory := _number(total)) is not None:
            yield Card(
                int(index),
                name,
                uuid,
                driver,
                memory / 1024,
                round((_number(used) or 0) / 1024, 1),
                {"Enabled": True, "Disabled": False}.get(ecc),
                None if (count := _number(errors)) is None else int(count),
                mig == ["Enabled"],
            )


def _capabilities(text: str) -> dict[int, Capability]:
    found = {}
    for index, capability in _rows(text, 2):
        if parts := re.fullmatch(r"(\d+)\.(\d+)", capability):
            found[int(index)] = (int(parts[1]), int(parts[2]))
    return found


def _by_name(name: str) -> Capability | None:
    """Where the driver is too old to tell."""
    gpu = gpus.find(name)
    return gpu.sm if gpu else None


def _tenants(text: str) -> dict[str, list[Tenant]]:
    found: dict[str, list[Tenant]] = {}
    for uuid, pid, name, used in _rows(text, 4):
        if pid.isdecimal():
            mebibytes = _number(used)
            held = None if mebibytes is None else round(mebibytes / 1024, 1)
            found.setdefault(uuid, []).append(Tenant(int(pid), name, held))
    return found


def _slices(text: str) -> dict[str, int]:
    """How many slices stand below each card in `nvidia-smi -L`."""
    found: dict[str, int] = {}
    card = ""
    for line in text.splitlines():
        if gpu := re.search(r"^GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            card = gpu[1]
        elif re.match(r"\s+MIG .*\(UUID: MIG-", line):
            found[card] = found.get(card, 0) + 1
    return found


def matrix(text: str) -> dict[tuple[int, int], str]:
    """Of `nvidia-smi topo`, between cards alone: network adapters have rows and columns too."""
    found: dict[tuple[int, int], str] = {}
    columns: list[int | None] = []
    for line in _COLOURS.sub("", text).splitlines():
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        cells = [cell for cell in cells if cell]
        if not cells or cells[0] == "Legend:":
            if columns:
                break
            continue
        numbers = [int(match[1]) if (match := _CELL.match(cell)) else None for cell in cells]
        if not columns:
            columns = numbers
        elif (row := numbers[0]) is not None:
            for column, cell in zip(columns, cells[1:], strict=False):
                if column is not None and column != row:
                    found[row, column] = cell
    return found


def _rows(text: str, least: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    return [row for row in rows if len(row) >= least]


def _number(text: str) -> float | None:
    """[N/A] and [Not Supported] are none."""
    try:
        return float(text)
    except ValueError:
        return None
