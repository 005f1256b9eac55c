"""Several workers on one machine: each has a parent in a thread of this one small process.

To the queue they are workers like any others. What they share is the machine, and the person who stops it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Protocol

from worker.blame import in_one_line
from worker.errors import UnfinishedError, WorkerError
from worker.link import Alive
from worker.parent import Ending
from worker.settings import Settings
from worker.standing import Standing
from worker.stop import Ear, Relay, StopSignal

if TYPE_CHECKING:
    from worker.hardware.cards import Card

log = logging.getLogger(__name__)


class Member(Protocol):
    """One worker of the crew: a Parent."""

    def run(self) -> Ending: ...
    @property
    def standing(self) -> Standing: ...


Recruit = Callable[[Settings, Ear, Callable[[Alive], None], str], Member]
"""its settings, what it hears stops with, whom it shows its state, and what people call it"""


def divide(settings: Settings, workers: int, cards: Sequence[Card] = ()) -> list[Settings]:
    """Each member's share: one card, in turn, and the views to the first."""
    shares = []
    for number in range(workers):
        share = replace(settings, out=None if number else settings.out)
        if workers > 1:
            share = replace(share, member=number + 1)
        if cards:
            card = cards[number % len(cards)]
            environment = {**settings.environment, **card.environment}
            share = replace(share, environment=environment, device_name=card.label)
        shares.append(share)
    return shares


def together(endings: Sequence[Ending]) -> Ending:
    """How the crew ended: as the members that stayed well did; ill only if all are."""
    well = [one for one in endings if one.code in (0, UnfinishedError.exit_code)]
    worst = max(well or endings, key=lambda one: one.code)
    if well and not worst.text:
        return replace(worst, text=next((one.text for one in endings if one.code), ""))
    return worst


class Crew:
    def __init__(
        self,
        shares: Sequence[Settings],
        stop: Ear,
        show: Callable[[Sequence[Standing]], None],
        recruit: Recruit,
    ) -> None:
        self._stop = stop
        self._names = [name_of(number, shares) for number in range(len(shares))]
        self._ears = [Relay(stop) for _ in shares]
        self._members = [
            recruit(share, ear, lambda _: show(self.standings()), name)
            for share, ear, name in zip(shares, self._ears, self._names, strict=True)
        ]

    def standings(self) -> list[Standing]:
        return [member.standing for member in self._members]

    def run(self) -> list[Ending]:
        """Until every member has ended. In the main thread, for it hears the signals for all."""
        with ExitStack() as stack:
            for ear in self._ears:
                stack.enter_context(ear)
            ended = stack.enter_context(Relay(self._stop))
            threads = stack.enter_context(ThreadPoolExecutor(len(self._members), "parent"))
            futures = [threads.submit(self._run, number) for number in range(len(self._members))]
            for future in futures:
                future.add_done_callback(lambda _: ended.ring())
            self._pass_on_stops(futures, ended)
            return [future.result() for future in futures]

    def _pass_on_stops(self, futures: Sequence[Future[Ending]], ended: Relay) -> None:
        told: StopSignal | None = None
        while not all(future.done() for future in futures):
            wait([self._stop.fileno(), ended.fileno()])
            ended.drain()
            self._stop.drain()
            stop = self._stop.current
            if stop and stop is not told:
                told = stop
                log.warning("%s: stopping", stop.reason)
                for ear in self._ears:
                    ear.ring()

    def _run(self, number: int) -> Ending:
        try:
            ending = self._members[number].run()
        except WorkerError as error:
            ending = Ending(error.exit_code, str(error))
        except Exception as error:
            log.debug("the parent failed", exc_info=True)
            ending = Ending(WorkerError.exit_code, in_one_line(error))
        if ending.code and len(self._members) > 1 and not self._stop.current:
            log.warning("%s ends for good: %s", self._names[number], ending.text)
        return ending


def name_of(number: int, shares: Sequence[Settings]) -> str:
    if len(shares) == 1:
        return "the worker"
    device = shares[number].device_name
    return f"worker {number + 1} of {len(shares)}{f' ({device})' if device else ''}"
