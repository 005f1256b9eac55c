"""From so much to so much: what is not known better than that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, by: Span | float) -> Span:
        if isinstance(by, Span):
            return Span(self.low * by.low, self.high * by.high)
        return Span(self.low * by, self.high * by)

    def over(self, share: Span) -> Span:
        """So much work, done at such a share of the best: the best share takes the least time."""
        return Span(self.low / share.high, self.high / share.low)

    def slower(self, other: Span) -> Span:
        """Both at once: who takes longer."""
        return Span(max(self.low, other.low), max(self.high, other.high))


def together(spans: Iterable[Span]) -> Span:
    found = Span(0, 0)
    for one in spans:
        found += one
    return found


def exactly(amount: float) -> Span:
    return Span(amount, amount)
