"""Whether a job that raised is tried again: as long as it comes further."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Attempts:
    """The tries of one job under one claim.

    The first error is tried again, for it may have been a moment's; after that, only what has made a
    checkpoint at a later step since the last error. Errors are not compared: two of them without a step
    forward between them are one that stays."""

    count: int = 1
    _step: int | None = None

    def again(self, step: int) -> bool:
        """After an error; `step` is that of the newest whole checkpoint, -1 if there is none."""
        further = self._step is None or step > self._step
        self._step = step
        self.count += further
        return further
