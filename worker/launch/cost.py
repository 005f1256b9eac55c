"""What a launch will cost, as far as it can be known before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from worker.duration import spoken
from worker.errors import UsageError
from worker.items import Json

if TYPE_CHECKING:
    from worker.launch.launch import Launch
    from worker.planning.money import Price
    from worker.planning.plan import Plan
    from worker.planning.span import Span
    from worker.tasks.registry import AnyTask

CAP_SAID = "if every machine works to its time limit"
ANEW = ", and as much again each time that `watch` submits it anew"
CORES = 8
"""assumed of a machine, for each of its cards"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all machines together."""

    cards: int
    """0: the machines have none"""
    seconds: Span | None
    """of the whole work on all these cards; None: there is no plan for it"""
    price: Price | None
    """of one card and hour, or of a machine that has none; None: nobody knows"""
    time_limit_s: float = 0
    rests_on: Sequence[str] = ()
    machines: int = 1
    fees: Span | None = None
    """USD besides the machines"""

    @property
    def paid(self) -> int:
        """For so many of what the price is of."""
        return self.cards or self.machines

    @property
    def usd(self) -> Span | None:
        from worker.planning import money

        if not (self.seconds and self.price):
            return None
        rent = money.cost(self.seconds, self.price.usd, self.paid)
        return rent + self.fees if self.fees else rent

    @property
    def most_usd(self) -> float | None:
        """No more than this can be spent before the machines are taken away."""
        if not self.price or not self.time_limit_s:
            return None
        return self.price.usd.high * self.paid * self.time_limit_s / 3600

    def as_json(self) -> Json:
        seconds, usd = self.seconds, self.usd
        return {
            "machines": self.machines,
            "cards": self.cards,
            "time_s": [round(seconds.low), round(seconds.high)] if seconds else None,
            "usd_per_card_hour": [self.price.usd.low, self.price.usd.high] if self.price else None,
            "cost_usd": [round(usd.low, 2), round(usd.high, 2)] if usd else None,
            "most_usd": None if self.most_usd is None else round(self.most_usd, 2),
            "rests_on": list(self.rests_on),
        }


def lines(cost: Cost) -> list[str]:
    """For people: the money first."""
    usd, seconds = cost.usd, cost.seconds
    each = "card" if cost.cards else "machine"
    all_of_them = f"{cost.paid} {each}" + "s" * (cost.paid != 1)
    said = []
    if usd:
        said.append(f"cost  ${usd.low:.2f} to ${usd.high:.2f}")
    if cost.most_usd is not None:
        said.append(f"most  ${cost.most_usd:.2f}, {CAP_SAID} of {spoken(cost.time_limit_s)}{ANEW}")
    if seconds:
        hours = f"{seconds.low * cost.paid / 3600:.1f} to {seconds.high * cost.paid / 3600:.1f} {each} hours"
        said.append(f"time  {spoken(seconds.low)} to {spoken(seconds.high)} on {all_of_them}: {hours}")
    else:
        said.append(f"time  is not known on {all_of_them}")
    if cost.price:
        low, high = cost.price.usd.low, cost.price.usd.high
        usd_an_hour = f"${low:.2f}" if low == high else f"${low:.2f} to ${high:.2f}"
        said.append(f"price {usd_an_hour} for a {each} and hour ({cost.price.source})")
    else:
        said.append(f"price is not known: --price USD says what a {each} costs an hour")
    return [*said, *(f"      {one}" for one in cost.rests_on)]


def of(launch: Launch, nodes: int = 1) -> Cost:
    """By the plan of its task. `nodes`: machines of each worker, which take one job together."""
    from worker.planning import kinds, money
    from worker.tasks import registry
    from worker.tasks.task import JobTask

    price = money.find(launch.profile.hw, None if launch.price is None else str(launch.price))
    machines = launch.workers * nodes
    cost = Cost(machines * launch.gpus, None, price, launch.time_limit_s, machines=machines)
    if not launch.task:
        return _resting(cost, "the queue's recipe says what the work is: --task says it here too")
    task = registry.find(launch.task)
    if launch.task not in kinds.KINDS:
        return _resting(
            cost, f"there is no plan for {launch.task}: `watch` tells once the first answers are there"
        )
    counted = _count(launch, task)
    is_job = issubclass(task, JobTask)
    # what a machine does not share with others, such as loading a model, takes each of them its time
    share = None if counted is None or is_job else ceil(counted / machines)
    try:
        made = _plan(launch, task, share, price)
    except UsageError as error:  # of a model that nobody has described, say
        return _resting(cost, str(error))
    if made.lacks:
        lacks = [f"it does not fit: {one}; see worker plan {launch.task}" for one in made.lacks]
        return _resting(cost, *lacks)
    seconds, rests_on = made.seconds, []
    if is_job:
        jobs = counted or 1
        seconds *= ceil(jobs / launch.workers)
        if jobs < launch.workers:
            rests_on.append(f"{jobs} of {launch.workers} workers has a job, the others wait and are paid for")
        if nodes > 1:
            rests_on.append(f"the time is one machine's: the {nodes} of a worker need less together")
    elif counted is None:
        seconds *= 1 / machines
        rests_on.append("as many items as `worker plan` has by itself: what lies elsewhere is not counted")
    else:
        rests_on.append(f"{counted:,} items")
        if counted < machines:
            rests_on.append(f"{machines - counted:,} machines find nothing to do")
    fees = made.needs.fees * (machines if share else 1) if made.needs.fees else None
    if fees:
        rests_on.append(f"fees of ${fees.low:.2f} to ${fees.high:.2f} besides the machines")
    return _resting(replace(cost, seconds=seconds, fees=fees), *rests_on, *made.notes)


def _count(launch: Launch, task: type[AnyTask]) -> int | None:
    """The items that its inputs are; None: they are not on this machine."""
    from worker.inputs import is_url
    from worker.queue.lines import Wish
    from worker.sources import find

    if not launch.inputs or any(is_url(one) or one == "-" for one in launch.inputs):
        return None
    try:
        named = find(launch.inputs, task, {}, None)
    except UsageError:  # the launcher tells it, if that is a mistake
        return None
    return sum(isinstance(one, Wish) for one in named.wishes)


def _plan(launch: Launch, task: type[AnyTask], items: int | None, price: Price | None) -> Plan:
    """Of one machine."""
    from worker.hardware import gpus
    from worker.models import engine_of
    from worker.planning import kinds, plan
    from worker.planning import known as models
    from worker.planning.learnt import Learnt
    from worker.planning.machine import Machine
    from worker.tasks.params import parse_settings

    kind = kinds.find(launch.task)
    work = kind()
    model = launch.recipe.get("model")
    known = kind.params_type.model_fields
    said = [one for one in launch.params if one.partition("=")[0] in known]
    if task.engines and "engine" in known:
        said.append(f"engine={engine_of(task, launch.recipe.get('engine'), model)}")
    params = parse_settings(kind, said)
    usual = work.usual_model(params)
    card = gpus.of(launch.profile.hw)
    cards = max(1, launch.gpus)
    reached, reached_on = Learnt().of(card)
    machine = Machine(
        launch.profile.hw, cards, CORES * cards, None, None, reached, reached_on, card, cores_said=False
    )
    shape = models.find(model or usual) if usual else None
    return plan.make(work, params, machine, shape=shape, batch=None, items=items, price=price)


def _resting(cost: Cost, *on: str) -> Cost:
    return replace(cost, rests_on=[*on, *cost.rests_on])
