"""A kind of work, as far as plans go: what it asks for, and what could be asked for instead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

from worker.planning import known
from worker.planning.disk import ENVIRONMENT, Disk, Kept
from worker.planning.machine import Machine
from worker.planning.memory import Items
from worker.planning.shape import Shape
from worker.planning.span import Span
from worker.tasks.task import Params

P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Asked(Generic[P]):
    """What a plan is made for."""

    machine: Machine
    params: P
    batch: int
    """on one card"""
    shape: Shape | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    gpu: Items = field(default_factory=dict)
    """bytes of one card"""
    ram: Items = field(default_factory=dict)
    """bytes of the machine"""
    disk: Disk = field(default_factory=lambda: Disk([Kept("environment", ENVIRONMENT, ())]))
    seconds: Mapping[str, Span] = field(default_factory=dict)
    """one after the other"""
    took: Span | None = None
    """all of them, where how long one takes hangs on another; None: their sum"""
    fees: Span | None = None
    """USD besides the machine"""
    rented: bool = True
    """what it costs is the machine"""
    notes: Sequence[str] = ()
    error: str = "10 %"
    """of the GPU's memory"""

    @property
    def gpu_total(self) -> float:
        return sum(self.gpu.values())

    @property
    def ram_total(self) -> float:
        return sum(self.ram.values())


@dataclass(frozen=True, slots=True)
class Change:
    """Something that could be asked for instead."""

    told: str
    """as it is typed"""
    asked: Asked[Any]


class Work(ABC, Generic[P]):
    name: ClassVar[str]
    about: ClassVar[str]
    params_type: ClassVar[type[Params]]
    model: ClassVar[str | None] = None
    most: ClassVar[int] = 64
    """the largest batch that is of use"""

    def usual_model(self, params: P) -> str | None:  # noqa: ARG002
        """Unless a person names another; None: there is none."""
        return self.model

    def batch(self, params: P, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        """Unless a person says another; None: the largest that fits."""
        return None

    @abstractmethod
    def needs(self, asked: Asked[P]) -> Needs: ...

    def changes(self, asked: Asked[P]) -> Iterator[Change]:  # noqa: ARG002
        """On the same machine, those that cost least first; a smaller batch goes without saying."""
        return iter(())


def other(asked: Asked[P], **changed: object) -> Asked[P]:
    """With other parameters."""
    return replace(asked, params=asked.params.model_copy(update=changed))


def smaller(asked: Asked[P]) -> Iterator[Change]:
    """The next smaller model of the family."""
    if asked.shape and (shape := known.smaller(asked.shape)):
        yield Change(f"--model {shape.name}", replace(asked, shape=shape))
