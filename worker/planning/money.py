"""What an hour of a card costs: by the table beside this file, by a person's own, or as said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError
from worker.items import Json
from worker.planning.span import Span, exactly

TABLE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one GPU and hour."""

    usd: Span
    source: str

    @property
    def each(self) -> Mapping[str, Span]:
        low, high = exactly(self.usd.low), exactly(self.usd.high)
        if low == high:
            return {"": low}
        return {f"at ${low.low:.2f} an hour": low, f"at ${high.low:.2f} an hour": high}


def find(hw: str, given: str | None) -> Price | None:
    """`given`: USD an hour, or a file like prices.json; None where nobody knows."""
    if given is None:
        return _read(TABLE, hw)
    try:
        usd = float(given)
    except ValueError:
        return _read(Path(given), hw)
    if not 0 <= usd < float("inf"):
        raise UsageError(f"--price {given}: write USD an hour, or a file")
    return Price(exactly(usd), "as --price says")


def _read(file: Path, hw: str) -> Price | None:
    """{"prices": {"a100": 1.5, "h100": {"low": 2, "high": 4, "source": "…"}}}"""
    try:
        told: Mapping[str, Json] = json.loads(file.read_bytes())["prices"]
        if (found := told.get(hw)) is None:
            return None
        alone = not isinstance(found, Mapping)
        low, high = (found, found) if alone else (found["low"], found["high"])
        if not (_is_number(low) and _is_number(high) and 0 <= low <= high < float("inf")):
            raise ValueError
        return Price(Span(low, high), str(file if alone else found.get("source", file)))
    except OSError as error:
        raise UsageError(f"--price {file}: {error.strerror}; write USD an hour, or a file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f'--price {file}: write {{"prices": {{"a100": 1.5, "h100": {{"low": 2, "high": 4}}}}}}'
        ) from None


def _is_number(told: Json) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool)


def cost(seconds: Span, usd: Span, cards: int) -> Span:
    """`usd`: for one GPU and hour."""
    return seconds * usd * (cards / 3600)
