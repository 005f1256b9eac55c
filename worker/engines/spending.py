"""What was asked of an endpoint, what that cost, and whether the next question may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from worker.items import Json

if TYPE_CHECKING:
    from worker.engines.dialect import Question
    from worker.purse import Purse

PICTURE_MOST = 3400
"""tokens of a picture, before one was seen: GPT-4o mini takes 2,833, and InternVL 13 tiles of 256"""


@dataclass(frozen=True, slots=True)
class Prices:
    """USD a million tokens."""

    of_prompt: float
    of_answer: float

    def cost(self, prompt_tokens: float, generated_tokens: float) -> float:
        return (prompt_tokens * self.of_prompt + generated_tokens * self.of_answer) / 1e6


@dataclass(slots=True)
class Spent:
    calls: int = 0
    """that were sent"""
    retries: int = 0
    """of them, those that asked the same once more"""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    unmetered: int = 0
    """answers that did not say how many tokens they were"""
    perhaps_paid: int = 0
    """calls that were sent and whose answer never came whole"""
    waited_s: float = 0.0
    """of all questions together: at the gate, and before another try"""

    def told(self) -> dict[str, Json]:
        return {**asdict(self), "waited_s": round(self.waited_s, 3)}


@dataclass(slots=True)
class Bill:
    """Of one call."""

    most: float
    """USD that it may cost"""
    paid: float | None = 0.0
    """None: it was sent, and nobody knows"""


class Till:
    """The money of one worker's calls. Lives in their event loop."""

    def __init__(self, prices: Prices | None, purse: Purse | None) -> None:
        self._prices = prices
        self._purse = purse
        self._paid = self._perhaps = self._held = 0.0
        """held: what calls under way may cost at most"""
        self._open = 0
        self._settled = asyncio.Condition()
        self._seen: dict[int, float] = {}
        """by the area of pictures: the most tokens of one and its share of the text"""
        self._has_asked = False
        """anything but the small question"""

    def learn(self, asked: Question, prompt_tokens: int) -> None:
        """What pictures take here. The small question's is none like the others."""
        tokens = prompt_tokens / max(1, asked.count)
        self._seen[asked.area] = max(self._seen.get(asked.area, 0.0), tokens)

    def most(self, asked: Question) -> float:
        """What it may cost."""
        if self._prices is None:
            return 0.0
        # a larger picture takes more tokens, or as many
        of_one = [tokens * max(1.0, asked.area / area) for area, tokens in self._seen.items()]
        text = len(asked.prompt.encode())  # no token is shorter than a byte
        return self._prices.cost(text + max(of_one, default=PICTURE_MOST) * asked.count, asked.max_tokens)

    @asynccontextmanager
    async def bill(self, asked: Question, *, small: bool) -> AsyncIterator[Bill]:
        """Waits while calls under way may take what is left; raises when it is not enough without them."""
        bill = Bill(self.most(asked))
        if self._purse and self._purse.has_limit:
            async with self._settled:
                await self._settled.wait_for(lambda: not self._open or self._has(bill.most))
            if not self._has(bill.most):
                raise (self._purse.over if self._has_asked else self._purse.never_enough)(bill.most)
        self._has_asked |= not small
        self._open += 1
        self._held += bill.most
        try:
            yield bill
        finally:
            self._open -= 1
            self._held -= bill.most
            self._paid += bill.paid or 0.0
            self._perhaps += bill.most if bill.paid is None else 0.0
            if self._purse:
                self._purse.of_calls = self._paid + self._perhaps
            async with self._settled:
                self._settled.notify_all()

    def cost(self, prompt_tokens: int, generated_tokens: int) -> float:
        return self._prices.cost(prompt_tokens, generated_tokens) if self._prices else 0.0

    def told(self) -> Mapping[str, Json]:
        if self._prices is None:
            return {}
        return {"cost_usd": round(self._paid, 6), "perhaps_usd": round(self._perhaps, 6)}

    def _has(self, usd: float) -> bool:
        assert self._purse
        return self._purse.has(self._held + usd)
