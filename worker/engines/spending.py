"""What was asked of an endpoint, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from worker.items import Json


@dataclass(frozen=True, slots=True)
class Prices:
    """USD a million tokens."""

    of_prompt: float
    of_answer: float


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

    def told(self, prices: Prices | None) -> Mapping[str, Json]:
        told: dict[str, Json] = {**asdict(self), "waited_s": round(self.waited_s, 3)}
        if prices:
            cost = self.prompt_tokens * prices.of_prompt + self.generated_tokens * prices.of_answer
            told["cost_usd"] = round(cost / 1e6, 6)
        return told
