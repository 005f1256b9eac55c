"""What a launch will cost, as far as it can be known before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.duration import spoken
from worker.items import Json

if TYPE_CHECKING:
    from worker.launch.launch import Launch
    from worker.planning.money import Price
    from worker.planning.span import Span

CAP_SAID = "if every machine works to its time limit"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all machines together."""

    cards: int
    seconds: Span | None
    """of the whole work on all these cards; None: there is no plan for it"""
    price: Price | None
    """of one card and hour; None: nobody knows"""
    time_limit_s: float = 0
    rests_on: Sequence[str] = ()

    @property
    def usd(self) -> Span | None:
        from worker.planning import money

        return money.cost(self.seconds, self.price.usd, self.cards) if self.seconds and self.price else None

    @property
    def most_usd(self) -> float | None:
        """No more than this can be spent before the machines are taken away."""
        if not self.price or not self.time_limit_s:
            return None
        return self.price.usd.high * self.cards * self.time_limit_s / 3600

    def as_json(self) -> Json:
        seconds, usd = self.seconds, self.usd
        return {
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
    cards = f"{cost.cards} card" + "s" * (cost.cards != 1)
    said = []
    if usd:
        said.append(f"cost  ${usd.low:.2f} to ${usd.high:.2f}")
    if cost.most_usd is not None:
        said.append(f"most  ${cost.most_usd:.2f}, {CAP_SAID} of {spoken(cost.time_limit_s)}")
    if seconds:
        hours = f"{seconds.low * cost.cards / 3600:.1f} to {seconds.high * cost.cards / 3600:.1f} card hours"
        said.append(f"time  {spoken(seconds.low)} to {spoken(seconds.high)} on {cards}: {hours}")
    else:
        said.append(f"time  nobody knows before the first answers: there is no plan for this work on {cards}")
    if cost.price:
        low, high = cost.price.usd.low, cost.price.usd.high
        each = f"${low:.2f}" if low == high else f"${low:.2f} to ${high:.2f}"
        said.append(f"price {each} for a card and hour ({cost.price.source})")
    else:
        said.append("price is not known: --price USD says what a card costs an hour")
    return [*said, *(f"      {one}" for one in cost.rests_on)]


def of(launch: Launch, items: int | None) -> Cost:
    """By the plan of its task, on all its cards; `items`: that will be enqueued, None: the plan's own."""
    from worker.hardware import gpus
    from worker.planning import kinds, money, plan
    from worker.planning import known as models
    from worker.planning.learnt import Learnt
    from worker.planning.machine import Machine
    from worker.tasks.params import parse_settings

    cards = launch.workers * launch.gpus
    hw = launch.profile.hw
    price = money.find(hw, None if launch.price is None else str(launch.price))
    if launch.task not in kinds.KINDS:
        return Cost(cards, None, price, launch.time_limit_s)
    kind = kinds.find(launch.task)
    work = kind()
    said = [f"engine={launch.recipe['engine']}"] if launch.recipe.get("engine") else []
    known = kind.params_type.model_fields
    params = parse_settings(kind, [one for one in (*said, *launch.params) if one.partition("=")[0] in known])
    usual = work.usual_model(params)
    card = gpus.of(hw)
    reached, reached_on = Learnt().of(card)
    machine = Machine(hw, cards, 8 * cards, None, None, reached, reached_on, card, False)
    shape = models.find(launch.recipe.get("model") or usual) if usual else None
    made = plan.make(work, params, machine, shape=shape, batch=None, items=items, price=price)
    return Cost(cards, made.seconds, price, launch.time_limit_s, [*made.lacks, *made.notes])
