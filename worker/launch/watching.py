"""`watch`: the queue says how far the work is, the scheduler whether anybody works on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeVar

from worker.clock import LOOK_EVERY_S
from worker.errors import UnfinishedError
from worker.launch.launcher import Standing

if TYPE_CHECKING:
    from worker.clock import Clock
    from worker.launch.launch import Receipts
    from worker.launch.launcher import Launcher, Look, Say

    Show = Callable[[Look, Standing], None]

T = TypeVar("T")

ASK_EVERY_S = 10.0
"""of a scheduler, which many ask"""
LONGEST_S = 300.0
"""before it is submitted again, where the last time brought no answers"""
OVER = {"done", "failed", "cancelled", "gone"}
UNHEARD = Standing("waiting", "the scheduler has not answered yet")


def watch(
    launcher: Launcher, receipts: Receipts, name: str, tries: int, clock: Clock, show: Show, say: Say
) -> tuple[Look, Standing]:
    """Until the queue is done, or nobody works on it any more. What was preempted is submitted again, `tries`
    times at most. A store or a scheduler that is away is waited for.

    Its receipt is read each time: it may have been cancelled meanwhile, or submitted once more."""
    away, pause = _Away(say), _Pause()
    standing, asked = UNHEARD, -inf
    while True:
        # first who works and then what is left: the other way round an end between both looks like a failure
        receipt = receipts.need(name)
        if clock.now() - asked >= ASK_EVERY_S:
            heard = away.ask("the scheduler", partial(launcher.standing, receipt))
            standing, asked = heard or standing, clock.now()
        if standing.state == "again" and receipt.cancelled:
            standing = replace(standing, state="cancelled", said=f"cancelled, and {standing.said}")
        seen = away.ask("the queue", partial(launcher.look, receipt))
        if seen:
            show(seen, standing)
        if seen and seen.is_over:
            return seen, standing
        if seen and standing.state == "again" and tries > 0:
            tries -= 1
            wait = pause.after(int(seen.json.get("items", {}).get("answered", 0)))
            soon = f" in {wait:.0f} s" if wait else ""
            say(f"{standing.said}: submitting it again{soon}, {tries} more times at most")
            clock.sleep(wait)
            receipt = receipts.need(name)
            if receipt.cancelled:
                continue
            if after := away.ask("the scheduler", partial(launcher.again, receipt, say)):
                is_cancelled = receipts.need(name).cancelled  # who did it just now saw no new jobs
                receipts.keep(replace(after, cancelled=is_cancelled))
                if is_cancelled:
                    launcher.cancel(after, say)
            asked = -inf
        elif seen and (standing.state == "again" or standing.state in OVER):
            return seen, standing
        clock.sleep(LOOK_EVERY_S)


class _Away:
    """Says once that somebody does not answer, and once that he does again."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._silent: set[str] = set()

    def ask(self, whom: str, question: Callable[[], T]) -> T | None:
        try:
            answer = question()
        except UnfinishedError as error:
            if whom not in self._silent:
                self._say(f"{whom} does not answer, the workers may well go on; trying again ({error})")
            self._silent.add(whom)
            return None
        if whom in self._silent:
            self._say(f"{whom} answers again")
            self._silent.remove(whom)
        return answer


class _Pause:
    """None before the first submission and after answers; twice as long each time that there were none."""

    def __init__(self) -> None:
        self._answered = -1
        self._next = 0.0

    def after(self, answered: int) -> float:
        if answered > self._answered:
            self._answered, self._next = answered, 0.0
        wait = self._next
        self._next = min(max(2 * wait, ASK_EVERY_S), LONGEST_S)
        return wait
