"""Rate limits: one gate for all calls. Whoever is told to wait shuts it for everybody."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_PARTS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)

Headers = Mapping[str, str]
"""their names in small letters"""


class Gate:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opens = clock()

    def shut(self, seconds: float) -> None:
        """Nobody asks for so long. It never opens earlier than somebody was told."""
        self._opens = max(self._opens, self._clock() + seconds)

    @property
    def left(self) -> float:
        """Seconds until it opens; 0: it is open."""
        return max(0.0, self._opens - self._clock())


def retry_after(headers: Headers) -> float | None:
    """Seconds, or a date by the endpoint's own clock: ours may be wrong."""
    found = [_milliseconds(headers.get("retry-after-ms", ""))]
    text = headers.get("retry-after", "")
    # two such headers come as one, a comma between them; dates hold a comma too
    found += [_seconds(part) for part in text.split(",")] if _date(text) is None else [_until(text, headers)]
    return max((one for one in found if one is not None), default=None)


def exhausted(headers: Headers, tokens: int) -> float:
    """Seconds until what is used up is there again; 0: another question of so many tokens may be asked."""
    waits = [0.0]
    for what, needed in (("requests", 1), ("tokens", max(1, tokens))):
        left = _seconds(headers.get(f"x-ratelimit-remaining-{what}", ""))
        if left is not None and left < needed:
            waits.append(duration(headers.get(f"x-ratelimit-reset-{what}", "")) or 0.0)
    return max(waits)


def duration(text: str) -> float | None:
    """6m0s, 1h2m, 17ms, 59.5s, or a number of seconds"""
    text = text.strip()
    if found := _seconds(text):
        return found
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        return None
    return sum(float(part or 0) * seconds for part, seconds in zip(parts.groups(), _PARTS_S, strict=True))


def _until(text: str, headers: Headers) -> float | None:
    then, now = _date(text), _date(headers.get("date", "")) or datetime.now(UTC)
    return None if then is None else max(0.0, (then - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _milliseconds(text: str) -> float | None:
    found = _seconds(text)
    return None if found is None else found / 1000


def _seconds(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
