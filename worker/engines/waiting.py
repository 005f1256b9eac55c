"""When an endpoint may be asked, and for how long one goes on trying. What one call learns holds for all."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from worker.engines.endpoint import Endpoint
from worker.engines.gate import Gate
from worker.errors import EndpointAwayError, UnfinishedError

PATIENCE_S = 200.0
"""for so long an endpoint may say nothing: a batch that is asked twice stays below what counts as hanging"""
TELL_EVERY_S = 30.0

log = logging.getLogger(__name__)


class StoppedError(UnfinishedError):
    """It is not asked any more."""


class Waiting:
    def __init__(self, endpoint: Endpoint) -> None:
        self.seconds = 0.0
        """waited, by all together"""
        self._endpoint = endpoint
        self._patience = PATIENCE_S
        self._gate = Gate()
        self._stopped = asyncio.Event()
        self._heard = 0.0
        """when it last settled a question"""
        self._heard_of_work = 0.0
        """when it last settled one that was not asked to try it"""
        self._silent: float | None = None
        """since when it does not, though it was asked"""
        self._trouble = ""
        """the last"""
        self._tell_at = 0.0

    def stop(self) -> None:
        """Nothing more is asked."""
        self._stopped.set()

    def heard(self, *, of_work: bool) -> None:
        self._heard, self._silent = time.monotonic(), None
        if of_work:
            self._heard_of_work = self._heard

    def was_heard_since(self, then: float) -> bool:
        return self._heard > then

    def was_heard_of_work_since(self, then: float) -> bool:
        return self._heard_of_work > then

    def failed(self, why: str) -> None:
        self._silent = self._silent or time.monotonic()
        self._trouble = f"{why}; "
        self._tell(why)

    def shut(self, seconds: float) -> None:
        """A rate limit: nobody asks for so long."""
        self._gate.shut(seconds)
        self._tell(f"rate limit, nothing is asked for {seconds:.3g} s")

    def deadline(self) -> float:
        """Of what is asked now."""
        return time.monotonic() + self._patience

    def is_over(self, ends: float) -> bool:
        return time.monotonic() >= self._ends(ends)

    async def until_open(self, ends: float) -> None:
        while (left := self._gate.left) and not self._stopped.is_set():
            if time.monotonic() + left > self._ends(ends):
                raise self.away(f"{self._trouble}it wants us to wait for {left:.0f} s")
            await self.wait(left + random.uniform(0, min(1.0, left / 10)))  # not all in one moment
        if self._stopped.is_set():
            raise StoppedError("stopped before this was asked")

    async def wait(self, seconds: float) -> None:
        """Or until the stop."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
        self.seconds += time.monotonic() - begun

    def away(self, why: str) -> EndpointAwayError:
        return EndpointAwayError(
            f"endpoint away ({self._endpoint.says(why)}); nothing is lost, run the same command again"
        )

    def _ends(self, ends: float) -> float:
        """Who is not heard for long is not given as long again by the next question."""
        return ends if self._silent is None else min(ends, self._silent + self._patience)

    def _tell(self, what: str) -> None:
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            log.warning("%s; trying again for up to %g s", self._endpoint.says(what), self._patience)
