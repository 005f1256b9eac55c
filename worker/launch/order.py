"""What a person asks of `make`, and the profile of the machine that it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import UsageError

NAME = "gpu-batch-worker"
GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Profile:
    """env/<hw>.env"""

    hw: str
    stack: str
    """names the image's Dockerfile and the lock"""
    device: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """what its worker is told, where nobody has said otherwise"""

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
    engine: str = ""
    model: str = ""
    """its folder, file or name"""

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
    if "/" in hw or not file.is_file():
        raise UsageError(f"HW={hw} is unknown; choose one of: {_names(file.parent, '*.env')}")
    lines = (line.partition("=") for line in file.read_text().splitlines() if not line.startswith("#"))
    values = {key: value for key, equals, value in lines if equals}
    said = environment if environment.get("WORKER_HW", hw) == hw else {}
    told = {key: said.get(key, value) for key, value in values.items()}
    told["WORKER_STACK"] = told["WORKER_STACK"] or values["WORKER_STACK"]
    return Profile(hw, told["WORKER_STACK"], values["WORKER_DEVICE"], told)


def check(order: Order, checkout: Path, is_there: Callable[[str], bool]) -> None:
    """All that can be known to be wrong before minutes of setting up."""
    if not (checkout / order.dockerfile).is_file():
        stacks = _names(checkout / "docker", "*.Dockerfile")
        raise UsageError(f"WORKER_STACK={order.profile.stack} is unknown; choose one of: {stacks}")
    if not (checkout / order.lock).is_file():
        raise UsageError(
            f"TARGET={order.target} with HW={order.profile.hw}: {order.lock} is not there; "
            "there are worker, and quantise for cards"
        )
    if "://" in order.out:
        raise UsageError(
            f"OUT={order.out}: answers go into a folder of this machine; QUEUE may lie in a blob store, and "
            "`worker collect QUEUE --out FOLDER` writes them again elsewhere"
        )
    for path in order.inputs:
        if "://" not in path and path != "-" and not GLOB & set(path) and not is_there(path):
            raise UsageError(f"IN={path} is not there")


def _names(folder: Path, pattern: str) -> str:
    return ", ".join(sorted(file.name.partition(".")[0] for file in folder.glob(pattern)))


def run_words(order: Order, work: Work) -> tuple[str, ...]:
    """What `worker` is told."""
    chosen = (*_option("engine", order.engine), *_option("model", order.model))
    return (
        *("run", work.queue, "--task", order.task, *chosen, "--out", work.out),
        *(order.inputs or (work.demo,)),
    )


def doctor_words(order: Order) -> tuple[str, ...]:
    asked = (("for", order.task), ("model", order.model), ("queue", order.queue))
    return (
        *("doctor", "--hw", order.profile.hw),
        *(word for name, value in asked for word in _option(name, value)),
    )


def _option(name: str, value: str) -> tuple[str, ...]:
    return (f"--{name}", value) if value else ()


def work_of(order: Order, room: str) -> Work:
    """What is given gets a queue of its own name; the demonstration has the task's."""
    first = order.inputs[0].split("/") if order.inputs else []
    name = next((part for part in reversed(first) if part and not GLOB & set(part)), order.task)
    return Work(
        order.queue or f"{room}/{name}-queue",
        order.out or f"{room}/{name}-results",
        f"{room}/demo-{order.task}",
    )
