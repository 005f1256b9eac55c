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
        if isinstance(found, int | float):
            return Price(exactly(float(found)), str(file))
        return Price(Span(float(found["low"]), float(found["high"])), str(found.get("source", file)))
    except OSError as error:
        raise UsageError(f"--price {file}: {error.strerror}; write USD an hour, or a file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f'--price {file}: write {{"prices": {{"a100": 1.5, "h100": {{"low": 2, "high": 4}}}}}}'
        ) from None


def cost(seconds: Span, price: Price, cards: int) -> Span:
    return seconds * price.usd * (cards / 3600)
