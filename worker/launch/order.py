"""What a person asks of `make`, and the profile of the machine that it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import UsageError

NAME = "gpu-batch-worker"


@dataclass(frozen=True)
class Profile:
    """env/<hw>.env"""

    hw: str
    stack: str
    """names the image's Dockerfile and the lock"""
    device: str

    @property
    def has_gpu(self) -> bool:
        return self.device != "cpu"


@dataclass(frozen=True)
class Order:
    profile: Profile
    task: str = ""
    inputs: tuple[str, ...] = ()
    """none: a small demonstration set"""
    queue: str = ""
    out: str = ""
    image: str = ""
    """the name of one that a registry has"""
    target: str = "worker"
    """of the Dockerfile; `quantise` has other libraries in it"""

    @property
    def variant(self) -> str:
        stack = self.profile.stack
        return stack if self.target == "worker" else f"{self.target}-{stack}"

    @property
    def image_name(self) -> str:
        return self.image or f"{NAME}:{self.variant}"

    @property
    def dockerfile(self) -> str:
        return f"docker/{self.profile.stack}.Dockerfile"

    @property
    def lock(self) -> str:
        return f"env/locks/{self.variant}.txt"


@dataclass(frozen=True)
class Work:
    """Where the files of a run lie."""

    queue: str
    out: str
    demo: str


@dataclass(frozen=True)
class Step:
    """One command, and what is said before it."""

    command: tuple[str, ...]
    said: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def read_profile(checkout: Path, hw: str, environment: Mapping[str, str]) -> Profile:
    """What a person says counts more: an H100 with an old driver takes WORKER_STACK=ampere."""
    file = checkout / "env" / f"{hw}.env"
    if not file.is_file():
        names = ", ".join(sorted(one.stem for one in file.parent.glob("*.env")))
        raise UsageError(f"HW={hw} is unknown; choose one of: {names}")
    lines = (line.partition("=") for line in file.read_text().splitlines() if not line.startswith("#"))
    values = {key: value for key, equals, value in lines if equals}
    if environment.get("WORKER_HW", hw) == hw:
        values["WORKER_STACK"] = environment.get("WORKER_STACK") or values["WORKER_STACK"]
    return Profile(hw, values["WORKER_STACK"], values["WORKER_DEVICE"])


def work_of(order: Order, room: str) -> Work:
    """What is given gets a queue of its own name; the demonstration has the task's."""
    first = order.inputs[0].rstrip("/") if order.inputs else order.task
    name = first.rpartition("/")[2] or order.task
    return Work(
        order.queue or f"{room}/{name}-queue",
        order.out or f"{room}/{name}-results",
        f"{room}/demo-{order.task}",
    )
