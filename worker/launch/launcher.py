"""The contract of a launcher: one kind of place where workers run, and its verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from worker.errors import UsageError
from worker.items import Json

if TYPE_CHECKING:
    from worker.launch.cost import Cost
    from worker.launch.launch import Launch, Receipt
    from worker.launch.queue import Looking

    Say = Callable[[str], None]
    """a line for a person who waits"""
    Keep = Callable[[Receipt], None]
    """writes down what is known so far"""

State = Literal["waiting", "running", "again", "done", "failed", "cancelled", "gone"]
"""again: it ended with work left and no fault (75, a preemption): somebody has to submit it once more;
done: it ended by itself, with 0 or 1; gone: the scheduler knows it no longer"""

LAUNCHERS = {
    "slurm": ("worker.launch.slurm.launcher", "Slurm", "a SLURM cluster, or a server by ssh"),
    "azureml": ("worker.launch.azureml.launcher", "AzureMl", "a low-priority cluster of Azure ML"),
    "kubernetes": (
        "worker.launch.kubernetes.launcher",
        "Kubernetes",
        "an Indexed Job in a Kubernetes cluster",
    ),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the scheduler says of a launch; how far the work is, the queue says."""

    state: State
    said: str
    """for people: 3 running, 1 waiting (Priority)"""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a queue, wherever it lies."""

    lines: Sequence[str]
    json: Json
    is_over: bool
    failed: int


class Launcher(ABC):
    """`render` and `check` touch nothing and import no cloud.

    A scheduler that does not answer just now is an UnfinishedError: `watch` waits for it."""

    name: ClassVar[str]
    _looking: Looking | None = None

    @abstractmethod
    def check(self, launch: Launch) -> None:
        """Refuse what cannot go well, before anything is made or spent."""

    @abstractmethod
    def render(self, launch: Launch) -> Mapping[str, str]:
        """File name → text: all that `submit` hands over, and a person could hand over by hand."""

    @abstractmethod
    def cost(self, launch: Launch) -> Cost: ...

    @abstractmethod
    def submit(self, launch: Launch, known: Receipt | None, say: Say, keep: Keep) -> Receipt:
        """Make what is missing, bring the inputs, enqueue, start. After a failure half way it goes on.

        `known`: of an earlier submission of this name. `keep` after each thing that is made, so that a crash
        forgets nothing."""

    @abstractmethod
    def standing(self, receipt: Receipt) -> Standing: ...

    @abstractmethod
    def again(self, receipt: Receipt, say: Say) -> Receipt:
        """Start it once more on the same queue: it ended with work left."""

    def look(self, receipt: Receipt) -> Look:
        """Where its queue can be seen from here."""
        from worker.launch.queue import Looking

        if self._looking is None or self._looking.queue != receipt.queue:
            self._looking = Looking(receipt.queue)
        return self._looking.look()

    @abstractmethod
    def fetch(self, receipt: Receipt, out: Path, say: Say) -> bool:
        """The answers into OUT; True: all are there and none failed."""

    @abstractmethod
    def cancel(self, receipt: Receipt, say: Say) -> None:
        """End its workers. Queue and answers stay: the same submit goes on."""

    @abstractmethod
    def delete(self, receipt: Receipt, say: Say) -> None:
        """Remove what this launch made, and nothing else."""


def find(name: str) -> Launcher:
    if name not in LAUNCHERS:
        raise UsageError(f"there is no launcher '{name}': {', '.join(LAUNCHERS)}")
    module, launcher, _ = LAUNCHERS[name]
    found: Launcher = getattr(import_module(module), launcher)()
    return found
