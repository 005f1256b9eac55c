"""What a named piece of work needs, by its plan: memory of each card, and how many cards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import pydantic

from worker.errors import WorkerError
from worker.gpus.refusals import Reason, Refusal, Said
from worker.gpus.rules import wrong
from worker.gpus.shares import Sort, Strategy, share
from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.planning import kinds, known, plan
from worker.planning.machine import Machine
from worker.planning.plan import Plan
from worker.planning.shape import Shape
from worker.planning.work import Work
from worker.tasks.task import Params

ACCUMULATION = "gradient_accumulation_steps"


@dataclass(frozen=True, slots=True)
class Named:
    """Work as a request names it."""

    task: str
    model: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan that fits."""

    count: int
    """cards"""
    memory_gb: float
    """of each of them, at least"""
    need_gb: float
    """that the work itself takes of it"""
    share: float
    batch: int
    accumulation: int | None
    """batches before a step; None: this work knows no such thing"""
    said: str
    """in which it differs from what was asked for"""


def fit(named: Named, strategy: Strategy, sorts: Iterable[Sort], count: int | None = None) -> Fit:
    """The fewest cards that do, of the smallest that do; `count`: so many. Refused in the plan's words."""
    work, params, shape = _parsed(named)
    part = share(strategy, shape.parameters.total if shape else None)
    there = sorted(sorts, key=lambda sort: sort.memory_gb)
    most = max((sort.most for sort in there), default=0)
    tried: list[Plan] = []
    for number in [count] if count else _powers(most):
        tried = [_plan(work, params, shape, sort, number, part) for sort in there if number <= sort.most]
        asked_for = (_as_asked(params, made, part) for made in tried)
        in_batches = (_in_batches(work, params, made, part) for made in reversed(tried))
        if found := next(filter(None, (*asked_for, *in_batches)), None):
            return found
    raise Refusal(Reason.IMPOSSIBLE, wanted=_words(named), why=_why(tried, part))


def _parsed(named: Named) -> tuple[Work[Any], Params, Shape | None]:
    try:
        work = kinds.find(named.task)()
        params = type(work).params_type.model_validate(dict(named.params))
        usual = work.usual_model(params)
        if named.model and usual is None:
            raise Refusal(
                Reason.WRONG_VALUE,
                name="model",
                said=named.model,
                rule=Said(f"{named.task} has none", f"{named.task} 没有模型"),
            )
        return work, params, _shape(named.model or usual) if usual else None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(("params", *map(str, first["loc"])))
        raise wrong(first, name) from error
    except Refusal:
        raise
    except WorkerError as error:
        raise Refusal(Reason.WRONG_VALUE, name="task", said=_words(named), rule=str(error)) from error


def _shape(model: str) -> Shape:
    if found := known.named(model):
        return found
    names = ", ".join(known.names())
    raise Refusal(
        Reason.WRONG_VALUE, name="model", said=model, rule=Said(f"known are {names}", f"已知的有 {names}")
    )


def _plan(work: Work[Any], params: Params, shape: Shape | None, sort: Sort, count: int, part: float) -> Plan:
    # a card of which the strategy's share is what a plan calls room
    known_card = gpus.find(sort.kind.replace("RTX", "RTX ")) or gpus.of("a100")
    assert known_card
    card: Gpu = replace(
        known_card, gigabytes=sort.memory_gb, mib=int(part * sort.memory_gb * 1e9 / gpus.SHARE / gpus.MIB)
    )
    machine = Machine(known_card.hw, count, card=card, cores=8 * count)
    return plan.make(work, params, machine, shape=shape)


def _as_asked(params: Params, made: Plan, part: float) -> Fit | None:
    if not made.fits:
        return None
    steps = getattr(params, ACCUMULATION, None)
    return _told(made, made.needs.gpu_total, part, made.asked.batch, steps, "")


def _in_batches(work: Work[Any], params: Params, made: Plan, part: float) -> Fit | None:
    """Smaller ones, more of which make a step, so that it learns the same."""
    steps, wished = getattr(params, ACCUMULATION, None), made.asked.batch
    if steps is None or made.best is None or made.best >= wished:
        return None
    batch = max(one for one in range(1, made.best + 1) if wished % one == 0)
    more = steps * wished // batch
    need = work.needs(replace(made.asked, batch=batch)).gpu_total
    said = f"{ACCUMULATION} {more} with batches of {batch}, for {steps} with batches of {wished} do not fit"
    return _told(made, need, part, batch, more, said)


def _told(made: Plan, need: float, part: float, batch: int, steps: int | None, said: str) -> Fit:
    # rounded up: a card of exactly so much must do
    return Fit(made.asked.machine.gpus, ceil(need / part / 1e7) / 100, need / 1e9, part, batch, steps, said)


def _why(tried: list[Plan], part: float) -> Said:
    if not tried:
        return Said("there are not so many cards alike", "没有这么多同类卡")
    made = tried[-1]
    card = made.asked.machine.gpu
    assert card
    need, cards, batch = made.needs.gpu_total / 1e9, made.asked.machine.gpus, made.asked.batch
    room = part * card.gigabytes
    instead = "; ".join(f"{_change(one.change)}: {one.gpu / 1e9:.1f} GB" for one in made.instead)
    return Said(
        f"its plan needs {need:.1f} GB of each of {cards} at a batch of {batch}, and of the largest here "
        f"{part:.0%} are {room:.1f}" + (f"; what would do: {instead}" if instead else ""),
        f"方案需要每卡 {need:.1f} GB（{cards} 卡，批大小 {batch}），"
        f"此处最大的卡按 {part:.0%} 为 {room:.1f} GB" + (f"；可行的改法：{instead}" if instead else ""),
    )


def _change(typed: str) -> str:
    """As a request says it, and not a command."""
    return typed.replace("--set ", "params ").replace("--model ", "model ").replace("--hw ", "a card as ")


def _words(named: Named) -> str:
    return f"{named.task}{f' with {named.model}' if named.model else ''}"


def _powers(most: int) -> Iterator[int]:
    count = 1
    while count <= most:
        yield count
        count *= 2
