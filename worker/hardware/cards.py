"""Which accelerators this machine shows us, and the environment that leaves a process one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import MachineError, UsageError
from worker.hardware.command import ask

NONE_FROM_HERE = ("-1", "NoDevFiles")
"""what ends a list of visible devices; SLURM says the second to a job without any"""
SMI_LIMIT_S = 60.0
"""without its persistence daemon a driver wakes each card first"""


@dataclass(frozen=True, slots=True)
class Maker:
    device: str
    """what torch calls its devices"""
    variables: tuple[str, ...]
    """which restrict what a process sees; the one that an environment has counts, else the first"""


NVIDIA = Maker("cuda", ("CUDA_VISIBLE_DEVICES",))
AMD = Maker("cuda", ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"))
ASCEND = Maker("npu", ("ASCEND_RT_VISIBLE_DEVICES",))
INTEL = Maker("xpu", ("ZE_AFFINITY_MASK",))


@dataclass(frozen=True, slots=True)
class Card:
    """One device, or one slice of a device that is sold in slices."""

    device: str
    """what a process that sees it alone calls it: cuda, npu, xpu"""
    name: str
    """its number or UUID"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """what makes it the only one that a process sees"""
    uuid: str = ""
    given: bool = False
    """by the environment: a scheduler's word, or a person's"""

    @property
    def label(self) -> str:
        return f"{self.device}:{self.name[:12]}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a machine shows its cards."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    dev: Path = Path("/dev")
    sys: Path = Path("/sys")
    nvidia_smi: Callable[[], str] = lambda: nvidia_smi()


def cards(machine: Machine) -> list[Card]:
    """All that may be used here. What a scheduler left visible is not exceeded."""
    found = {maker: look(machine) for maker, look in LOOKS.items()}
    # a scheduler that does not know its cards sets every maker's variable
    for maker in sorted(found, key=lambda maker: not found[maker]):
        for variable in maker.variables:
            if variable in machine.environment:
                return _inherited(maker, variable, machine.environment[variable])
        if found[maker]:
            return found[maker]
    return []


def choose(wanted: str, there: Sequence[Card]) -> list[Card]:
    """`all`, or numbers within what is visible, or UUIDs."""
    if not there:
        raise MachineError(
            f"--gpus {wanted}: this machine shows no GPU: look at nvidia-smi -L and CUDA_VISIBLE_DEVICES, "
            "start a container with --gpus all, or leave --gpus out to work on the CPU"
        )
    if wanted.strip() == "all":
        return list(there)
    chosen = [_card(name.strip(), there) for name in wanted.split(",")]
    for number, card in enumerate(chosen):
        if card in chosen[:number]:
            raise UsageError(
                f"--gpus {wanted} names {card.label} twice: name it once, and put several workers on it "
                "with --workers"
            )
    return chosen


def joined(several: Sequence[Card]) -> Card:
    """As one: what a process that uses all of them sees."""
    if len(several) == 1:
        return several[0]
    shown = {
        name: ",".join(dict.fromkeys(one.environment[name] for one in several))
        for name in several[0].environment
    }
    return Card(several[0].device, ",".join(one.name for one in several), shown)


def only(there: Sequence[Card]) -> list[Card]:
    """What a model that computes here takes where nobody said on what. Of several a person says which: the
    others may be somebody else's."""
    found = [card for card in there if card.device == NVIDIA.device]
    if len(found) > 1:
        raise UsageError(
            f"this machine shows {len(found)} GPUs, and nothing says which to work on: "
            "--gpus all, --gpus 0, or --gpus 1x for any that is free; --device cpu works without them"
        )
    return found


def _card(name: str, there: Sequence[Card]) -> Card:
    if name.isdecimal():
        if int(name) < len(there):
            return there[int(name)]
        raise MachineError(
            f"--gpus {name}: this machine shows {len(there)} ({', '.join(card.label for card in there)}), "
            f"counted from 0 to {len(there) - 1}; a count has an x, as in 1x"
        )
    named = [card for card in there if name and name in (card.name, card.uuid)]
    if not named:
        raise UsageError(
            f"--gpus {name}: write all, numbers (0,1), or UUIDs as nvidia-smi -L prints them; "
            f"there are {', '.join(card.uuid or card.name for card in there)}"
        )
    return named[0]


def _inherited(maker: Maker, variable: str, value: str) -> list[Card]:
    names: list[str] = []
    for name in (one.strip() for one in value.split(",")):
        if not name or name in NONE_FROM_HERE:
            break
        names.append(name)
    # the order that these numbers count in is whatever the environment says already
    return [
        Card(maker.device, name, {variable: name}, "" if name.isdecimal() else name, given=True)
        for name in names
    ]


def of(maker: Maker, index: int, uuid: str = "") -> Card:
    """The one that a list of all cards of this machine calls so."""
    if maker is NVIDIA:
        return _nvidia_card(uuid if uuid.startswith("MIG-") else str(index), uuid)
    return _numbered(maker, [index])[0]


def _numbered(maker: Maker, numbers: Sequence[int]) -> list[Card]:
    return [Card(maker.device, str(number), {maker.variables[0]: str(number)}) for number in numbers]


def _nvidia(machine: Machine) -> list[Card]:
    found = listed(machine.nvidia_smi())
    # CUDA counts what it sees from 0, also in a container that was given /dev/nvidia3 alone
    return found or [_nvidia_card(str(n)) for n in range(len(_nodes(machine.dev, "nvidia")))]


def listed(text: str) -> list[Card]:
    """What `nvidia-smi -L` prints: a card's slices stand below it, and are used instead of it."""
    found: list[Card] = []
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", line):
            found.append(_nvidia_card(gpu[1], gpu[2]))
        elif slice_ := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line):
            if found and found[-1].uuid.startswith("GPU-"):
                found.pop()
            found.append(_nvidia_card(slice_[1], slice_[1]))
    return found


def models(text: str) -> list[str]:
    """What the driver calls the cards that `nvidia-smi -L` prints."""
    return re.findall(r"^GPU \d+: (.*) \(UUID:", text, re.MULTILINE)


def _nvidia_card(name: str, uuid: str = "") -> Card:
    # CUDA by itself counts the fastest first, nvidia-smi by the place on the bus
    chosen = {"CUDA_VISIBLE_DEVICES": name, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return Card(NVIDIA.device, name, chosen, uuid)


def nvidia_smi(*asked: str) -> str:
    """What it answers; nothing where there is none."""
    said = ask(["nvidia-smi", *(asked or ("-L",))], SMI_LIMIT_S)
    return said.out if said else ""


def _amd(machine: Machine) -> list[Card]:
    """Nodes that compute with SIMD units; the others are CPUs."""
    nodes = (machine.sys / "class/kfd/kfd/topology/nodes").glob("*/properties")
    units = [re.search(r"^simd_count (\d+)", _read(node), re.MULTILINE) for node in nodes]
    return _numbered(AMD, range(sum(bool(one and int(one[1])) for one in units)))


def _ascend(machine: Machine) -> list[Card]:
    return _numbered(ASCEND, _nodes(machine.dev, "davinci"))


def _intel(machine: Machine) -> list[Card]:
    """What the newer driver drives: the older one is mostly that of graphics within a CPU."""
    drivers = [
        (card / "device/driver").resolve().name
        for card in (machine.sys / "class/drm").glob("card*")
        if re.fullmatch(r"card\d+", card.name) and _read(card / "device/vendor").strip() == "0x8086"
    ]
    return _numbered(INTEL, range(drivers.count("xe")))


LOOKS: Mapping[Maker, Callable[[Machine], list[Card]]] = {
    NVIDIA: _nvidia,
    AMD: _amd,
    ASCEND: _ascend,
    INTEL: _intel,
}


def _nodes(dev: Path, name: str) -> list[int]:
    return sorted(
        int(node.name[len(name) :])
        for node in dev.glob(f"{name}[0-9]*")
        if node.name[len(name) :].isdecimal()
    )


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
