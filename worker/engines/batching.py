"""How many requests go to the device at once: what its memory holds, as it was measured."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from worker.engines.device import cache_folder

MOST = 64
"""beyond so many a step of decoding costs more for each row, and people wait long for the first answer"""
SHARE = 0.92
"""of the memory may be used: what is freed leaves holes"""

log = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Probe:
    """A batch that was tried."""

    requests: int
    peak: float
    """bytes, all that was there included"""


def fitting(small: Probe, large: Probe, room: float) -> int:
    """So many requests fit into so many bytes: what stays the same is paid once, the rest by each."""
    each = (large.peak - small.peak) / (large.requests - small.requests)
    fixed = small.peak - each * small.requests
    if each <= 0:
        return MOST
    return max(1, min(MOST, int((SHARE * room - fixed) / each)))


class Remembered:
    """What was found out on this machine, in a file. It saves time, and nothing depends on it."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_folder() / "batches.json"

    def get(self, key: str) -> int | None:
        found = self._read().get(key)
        return found if type(found) is int and 1 <= found <= MOST else None

    def put(self, key: str, batch: int) -> None:
        from worker.report.files import write_json

        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {**self._read(), key: batch})
        except OSError as error:
            log.warning("the batch that fits is not remembered: %s", error)

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class Batches:
    """Requests go in as many at a time as fit. Where memory runs out they go once more without what earlier
    ones left there; then in halves: from then on, if they were as many as ever go."""

    def __init__(self, size: int, *, release: Callable[[], None], smaller: Callable[[int], None]) -> None:
        """`release`: gives back what a batch left behind. `smaller`: is told the new size."""
        self.size = size
        self._asked_before = False
        """since memory was last given back"""
        self._release, self._smaller = release, smaller

    def answer(self, requests: Sequence[Q], ask: Callable[[Sequence[Q]], Sequence[A]]) -> list[A]:
        """In their order. What does not fit alone raises torch.OutOfMemoryError."""
        answers: list[A] = []
        most = self.size
        while part := requests[len(answers) : len(answers) + most]:
            alone = not self._asked_before
            if (found := self._asked(part, ask, last=alone and len(part) == 1)) is not None:
                answers += found
            elif alone:
                most = self._half(len(part))
        return answers

    def _asked(
        self, part: Sequence[Q], ask: Callable[[Sequence[Q]], Sequence[A]], *, last: bool
    ) -> Sequence[A] | None:
        """None: it did not fit, and all that was held is given back."""
        import torch

        self._asked_before = True
        try:
            return ask(part)
        except torch.OutOfMemoryError:
            if last:
                self._release()
                self._asked_before = False
                raise
        # only here: an exception in hand holds on to all that it passed by
        gc.collect()
        self._release()
        self._asked_before = False
        return None

    def _half(self, count: int) -> int:
        half = count // 2
        until = "from now on" if count == self.size else "of these"
        log.warning("%d requests do not fit into the device's memory: %d %s", count, half, until)
        if count == self.size:
            self.size = half
            self._smaller(half)
        return half
