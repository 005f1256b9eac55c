"""A run without a container: an environment of the profile's lock; all that grows lies on the data disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.errors import MachineError
from worker.launch.machine import Machine
from worker.launch.order import NAME, Order, Step


@dataclass(frozen=True)
class Place:
    venv: str
    room: str
    """where queues, answers and demonstrations lie when no other place is named"""
    environment: Mapping[str, str]

    @property
    def stamp(self) -> str:
        """Made when all is in place; what is newer than it asks for a new one."""
        return f"{self.venv}/core.stamp"

    def program(self, name: str) -> str:
        return f"{self.venv}/bin/{name}"


def place(order: Order, machine: Machine) -> Place:
    """A rented container's own disk is small, and goes with it."""
    variant = order.variant
    venv = ".venv" if variant == "cpu" else f".venv-{variant}"
    disk, room = machine.data_disk, "run"
    if not disk:
        return Place(venv, room, {})
    if not f"{machine.folder}/".startswith(f"{disk}/"):
        room = f"{disk}/{NAME}/run"
        venv = venv if variant == "cpu" else f"{disk}/{NAME}/{venv[1:]}"
    models = {} if "HF_HOME" in machine.environment else {"HF_HOME": f"{disk}/huggingface"}
    return Place(venv, room, models)


def set_up(order: Order, machine: Machine, place: Place, torch_index: str) -> list[Step]:
    """`torch_index`: PyTorch's own, for a lock whose wheels PyPI does not have."""
    if not machine.python:
        raise MachineError(
            "python3 is missing or older than 3.11; put a newer one first in PATH, "
            "with conda: conda create -n worker python=3.11 && conda activate worker"
        )
    pip = (place.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    index = ("--extra-index-url", torch_index) if torch_index else ()
    return [
        Step((machine.python, "-m", "venv", place.venv), f"Setting up {place.venv}"),
        Step((*pip, *index, "-r", order.lock)),
        Step((*pip, "--no-deps", "-e", ".")),
        Step(("touch", place.stamp)),
    ]


def refuse_without_gpu(order: Order, machine: Machine) -> None:
    if order.profile.has_gpu and not machine.driver:
        raise MachineError(
            f"HW={order.profile.hw} is a GPU, and NVIDIA's driver is not here (nvidia-smi): install it, "
            "start this container with its GPUs, or say HW=cpu"
        )
