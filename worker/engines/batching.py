"""How many requests go to the device at once: what its memory holds, as it was measured."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from worker.engines.decoding import ROWS
from worker.engines.device import cache_folder
from worker.hardware.gpus import SHARE

MOST = 64
"""beyond so many a step of decoding costs more for each row, and people wait long for the first answer"""
FEW, SOME, MANY = 1, 2, 4
"""requests that are tried: one, and many; or some, where many do not fit"""
GOOD = 8
"""full batches that go well before more are tried than once did not fit; each time it fails, twice as many"""

log = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Probe:
    """A batch that was tried."""

    requests: int
    peak: float
    """bytes, all that was there included"""
    step: float = 0.0
    """bytes beside these that a captured step keeps"""


def probed(tried: Callable[[int], Probe]) -> list[Probe]:
    """Two of them, from which others follow; fewer where not even two requests fit."""
    import torch

    found: list[Probe] = []
    for count in (FEW, MANY, SOME):
        try:
            found.append(tried(count))
        except torch.OutOfMemoryError:
            if count == FEW:
                break
        gc.collect()  # an exception held on to all that it passed by
        if len(found) == 2:
            break
    return found


def fitting(probes: Sequence[Probe], room: float) -> int:
    """So many requests fit into so many bytes, of those that a captured step may have rows: what stays the
    same is paid once, the rest by each, and every such number up to theirs has its step one day."""
    if len(probes) < 2:
        return 1
    small, large = probes
    each = (large.peak - small.peak) / (large.requests - small.requests)
    fixed = small.peak - each * small.requests
    step = large.step  # the first one tried also pays for what libraries load once
    most = MOST if large.requests == MANY else large.requests
    fits = [
        rows
        for steps, rows in enumerate(ROWS, 1)
        if rows <= most and fixed + each * rows + step * steps <= SHARE * room
    ]
    return max(fits, default=1)


@dataclass(frozen=True, slots=True)
class Size:
    """Of a batch."""

    batch: int
    most: int
    """that seemed to fit; the batch is smaller once memory ran out"""
    room: float = 0.0
    """bytes that were there for it on the card that had least"""


class Remembered:
    """What was found out on this machine, in a file. It saves time, and nothing depends on it."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or cache_folder() / "batches.json"

    def get(self, key: str) -> Size | None:
        found = self._read().get(key)
        if not isinstance(found, dict):
            return None
        batch, most, room = found.get("batch"), found.get("most"), found.get("room", 0.0)
        if type(batch) is int and type(most) is int and 1 <= batch <= most <= MOST and type(room) is float:
            return Size(batch, most, room)
        return None

    def put(self, key: str, size: Size) -> None:
        from worker.report.files import write_json

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, {**self._read(), key: asdict(size)})
        except OSError as error:
            log.warning("the batch that fits is not remembered: %s", error)

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class Batches:
    """Requests go in as many at a time as fit. Where memory runs out they go once more without what earlier
    ones left there; then in halves: from then on, if they were as many as ever go, and expected.
    What ran out may have been somebody else's for a while, so after some good batches more are tried."""

    def __init__(
        self,
        size: int,
        *,
        release: Callable[[], None],
        resized: Callable[[int], None],
        most: int | None = None,
        expected: Callable[[], bool] = lambda: True,
    ) -> None:
        """`release`: gives back what a batch left behind. `resized`: is told the new size. `most`: it never
        grows beyond that. `expected`: what was asked last tells how many others fit."""
        self.size, self.most = size, most or size
        self._asked_before = False
        """since memory was last given back"""
        self._release, self._resized, self._expected = release, resized, expected
        self._went = 0
        """the size before it grew"""
        self._good, self._patience = 0, GOOD

    def answer(self, requests: Sequence[Q], ask: Callable[[Sequence[Q]], Sequence[A]]) -> list[A]:
        """In their order. What does not fit alone raises torch.OutOfMemoryError."""
        answers: list[A] = []
        most = self.size
        while part := requests[len(answers) : len(answers) + most]:
            alone = not self._asked_before
            if (found := self._asked(part, ask, last=alone and len(part) == 1)) is not None:
                answers += found
                self._grow(len(part))
            elif alone:
                most = self._shrink(len(part))
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

    def _shrink(self, count: int) -> int:
        if count < self.size or not self._expected():
            log.warning("%d requests do not fit into the device's memory: %d of these", count, count // 2)
            return count // 2
        if self._went:
            self._patience *= 2
        self.size = self._went or count // 2
        self._went = self._good = 0
        log.warning("%d requests do not fit into the device's memory: %d for now", count, self.size)
        self._resized(self.size)
        return self.size

    def _grow(self, count: int) -> None:
        if count < self.size or self.size >= self.most:
            return
        self._good += 1
        if self._good >= self._patience:
            self._went, self._good = self.size, 0
            self.size = min([self.most, *(rows for rows in ROWS if rows > self.size)])
            log.info("%d requests at once went well %d times: %d are tried", count, self._patience, self.size)
            self._resized(self.size)
