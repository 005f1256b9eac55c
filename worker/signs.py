"""Signs of life. What takes long gives one whenever it gets on, and the limit of its item counts from the
last: a film of ten hours may take its time, and a decoder that hangs may not."""

from __future__ import annotations

import time
from typing import Protocol


class Stamp(Protocol):
    """Memory that whoever watches shares."""

    value: float
    """time.monotonic, which all processes of a machine share"""


_watched: Stamp | None = None


def watch(stamp: Stamp) -> None:
    """From now on every sign of this process shows there."""
    global _watched
    _watched = stamp


def give() -> None:
    """As often as you like: it is a clock read and a number written."""
    if _watched is not None:
        _watched.value = time.monotonic()
