"""From what is asked for to what it needs, whether that fits, and what would fit instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.hardware import gpus
from worker.items import Json
from worker.planning import money
from worker.planning.machine import Machine
from worker.planning.money import Price
from worker.planning.shape import Shape
from worker.planning.span import Span, together
from worker.planning.work import Asked, Change, Needs, Work
from worker.tasks.task import Params

_TOLD = 4
"""so many pairs of changes are told"""


@dataclass(frozen=True, slots=True)
class Instead:
    """What would fit."""

    change: str
    gpu: float
    """bytes of a card"""
    ram: float


@dataclass(frozen=True, slots=True)
class Plan:
    task: str
    asked: Asked[Any]
    needs: Needs
    lacks: Sequence[str]
    """what does not fit, and by how much"""
    best: int | None
    """the largest batch that fits, as far as a larger one is of use"""
    instead: Sequence[Instead]
    price: Price | None

    @property
    def fits(self) -> bool:
        return not self.lacks

    @property
    def notes(self) -> list[str]:
        return [*self.needs.notes, *later(self.needs, self.asked.machine)]

    @property
    def seconds(self) -> Span:
        return self.needs.took or together(self.needs.seconds.values())

    @property
    def usd(self) -> Span | None:
        at_each = [*self.usd_at.values()]
        return Span(at_each[0].low, at_each[-1].high) if at_each else self.needs.fees

    @property
    def usd_at(self) -> Mapping[str, Span]:
        """At each price of the hour, which a person chooses: from the lowest to the highest."""
        if self.price is None or not self.needs.rented:
            return {}
        fees = self.needs.fees or Span(0, 0)
        rents = {
            said: money.cost(self.seconds, at, self.asked.machine.gpus)
            for said, at in self.price.each.items()
        }
        return {said: rent + fees for said, rent in rents.items()}

    def as_json(self) -> dict[str, Json]:
        """A contract: docs/plan.md lists the keys."""
        needs, machine = self.needs, self.asked.machine
        return {
            "task": self.task,
            "hw": machine.hw,
            "fits": self.fits,
            "gpu_memory_gb": {"total": _gb(needs.gpu_total), "items": _all_gb(needs.gpu)},
            "ram_gb": _gb(needs.ram_total),
            "disk_gb": _gb(needs.disk.now),
            "time_s": _pair(self.seconds, 0),
            "cost_usd": _pair(self.usd, 2) if self.usd else None,
            "gpus": machine.gpus,
            "gpu_room_gb": _gb(machine.room),
            "model": self.asked.shape.name if self.asked.shape else None,
            "parameters": self.asked.shape.parameters.total if self.asked.shape else None,
            "model_source": self.asked.shape.source if self.asked.shape else None,
            "batch": self.asked.batch,
            "best_batch": self.best,
            "items": self.asked.items,
            "ram_items_gb": _all_gb(needs.ram),
            "disk_items_gb": {one.name: _gb(one.size) for one in needs.disk.kept},
            "disk_by_step_gb": {step: _gb(needs.disk.at(step)) for step in needs.disk.steps if step},
            "time_items_s": {name: _pair(span, 0) for name, span in needs.seconds.items()},
            "price_usd_per_gpu_hour": _pair(self.price.usd, 3) if self.price else None,
            "price_source": self.price.source if self.price else None,
            "gpu_memory_error": needs.error,
            "lacks": [*self.lacks],
            "instead": [
                {"change": one.change, "gpu_memory_gb": _gb(one.gpu), "ram_gb": _gb(one.ram)}
                for one in self.instead
            ],
            "notes": self.notes,
        }


def make(
    work: Work[Any],
    params: Params,
    machine: Machine,
    *,
    shape: Shape | None = None,
    batch: int | None = None,
    items: int | None = None,
    price: Price | None = None,
) -> Plan:
    first = Asked(machine, params, batch or 1, shape, items)
    best = largest(work, first)
    wished = batch or work.batch(params, machine, shape) or best or 1
    asked = replace(first, batch=wished)
    needs = work.needs(asked)
    lacks = [*lacking(needs, machine)]
    instead = [*advice(work, asked)] if lacks else []
    return Plan(work.name, asked, needs, lacks, best, instead, price)


def lacking(needs: Needs, machine: Machine) -> Iterator[str]:
    if needs.gpu and machine.gpu is None:
        yield "it needs a GPU"
    elif needs.gpu_total > machine.room:
        yield (
            f"{needs.gpu_total / 1e9:.1f} GB of GPU memory, and one {machine.hw} has room for "
            f"{machine.room / 1e9:.1f}"
        )
    if machine.ram_gb is not None and needs.ram_total > machine.ram_gb * 1e9:
        yield f"{needs.ram_total / 1e9:.0f} GB of RAM, and there are {machine.ram_gb:g}"
    if machine.disk_gb is not None and needs.disk.now > machine.disk_gb * 1e9:
        yield f"{needs.disk.now / 1e9:.0f} GB of disk, and there are {machine.disk_gb:g}"


def later(needs: Needs, machine: Machine) -> Iterator[str]:
    """What the steps that come after this one will lack."""
    disk = needs.disk
    if machine.disk_gb is None or disk.step not in disk.steps:
        return
    for step in disk.steps[disk.steps.index(disk.step) + 1 :]:
        if (lack := disk.at(step) - machine.disk_gb * 1e9) > 0:
            yield f"{step} will lack {lack / 1e9:.0f} GB of disk: it takes {disk.at(step) / 1e9:.0f}"


def _fits(work: Work[Any], asked: Asked[Any]) -> bool:
    return not any(lacking(work.needs(asked), asked.machine))


def largest(work: Work[Any], asked: Asked[Any]) -> int | None:
    """The more at once, the more memory: so it is halved between one that fits and one that does not."""
    fits, too_many = 0, work.most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if work.needs(replace(asked, batch=middle)).gpu_total <= asked.machine.room:
            fits = middle
        else:
            too_many = middle
    return fits or None


def advice(work: Work[Any], asked: Asked[Any]) -> list[Instead]:
    """What would fit: one change, else two; worked out like the plan itself."""
    singles = [*_changes(work, asked)]
    found = [one for one in singles if _fits(work, one.asked)]
    if not any(one.asked.machine.hw == asked.machine.hw for one in found):
        pairs = {one.asked: one for one in _pairs(work, asked) if _fits(work, one.asked)}
        found = [*pairs.values()][:_TOLD] + found
    needs = {one.told: work.needs(one.asked) for one in found}
    return [Instead(told, one.gpu_total, one.ram_total) for told, one in needs.items()]


def _changes(work: Work[Any], asked: Asked[Any]) -> Iterator[Change]:
    if (best := largest(work, asked)) and best < asked.batch:
        yield Change(f"--batch {best}", replace(asked, batch=best))
    yield from work.changes(asked)
    yield from _cards(work, asked)


def _cards(work: Work[Any], asked: Asked[Any]) -> Iterator[Change]:
    """The smallest other cards that would do, of each size the slowest."""
    sizes: set[float] = set()
    cards = filter(None, map(gpus.of, gpus.HARDWARE))
    for card in sorted(cards, key=lambda one: (one.gigabytes, one.half)):
        other = replace(asked, machine=asked.machine.other(card.hw))
        if card.hw != asked.machine.hw and card.gigabytes not in sizes and _fits(work, other):
            sizes.add(card.gigabytes)
            yield Change(f"--hw {card.hw}", other)


def _pairs(work: Work[Any], asked: Asked[Any]) -> Iterator[Change]:
    for one in work.changes(asked):
        for other in _changes(work, one.asked):
            if other.asked.machine.hw == asked.machine.hw:
                both = other.told if _option(one) == _option(other) else f"{one.told} {other.told}"
                yield Change(both, other.asked)


def _option(change: Change) -> str:
    """`--set pixels`, `--model`"""
    named, equals, _ = change.told.partition("=")
    return named if equals else change.told.partition(" ")[0]


def _gb(size: float) -> float:
    return round(size / 1e9, 2)


def _all_gb(items: Mapping[str, float]) -> dict[str, float]:
    return {name: _gb(size) for name, size in items.items()}


def _pair(span: Span, digits: int) -> list[float]:
    return [round(span.low, digits), round(span.high, digits)]
