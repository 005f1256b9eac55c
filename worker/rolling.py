"""Answers that somebody else gives: several are waited for at a time, and one is begun when another ends.

It stands between those who prepare and the loop, which finds such an item answered where it was prepared.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from worker.blame import failure_of
from worker.errors import WorkerError
from worker.items import Answer, Failure, Item
from worker.pool import Prepared, Preparing
from worker.tasks.task import MapTask

log = logging.getLogger(__name__)

Ask = Callable[[Any], "Answer | Failure"]
"""one sample; it raises what ails the machine, and nothing else"""


@dataclass(frozen=True, slots=True)
class Told:
    outcome: Answer | Failure
    seconds: float


class Rolling:
    """Samples are handed on as soon as they are there, so many as the loop lets be under way."""

    def __init__(self, pool: Preparing, ask: Ask, at_once: int) -> None:
        self._pool = pool
        self._ask = ask
        self._threads = ThreadPoolExecutor(at_once, "asking")
        self._asked: dict[Future[Told], Prepared] = {}
        self._trouble: WorkerError | None = None
        """what ails the machine; raised when all who were asked have answered"""
        self._unanswered: list[Item] = []
        """because of it"""
        self._one_at_a_time = threading.Lock()
        """a stop may drop all from another thread"""

    @property
    def under_way(self) -> int:
        return self._pool.under_way + len(self._asked) + len(self._unanswered)

    def submit(self, item: Item) -> None:
        self._pool.submit(item)

    def poll(self, timeout: float) -> list[Prepared]:
        """What is answered, or settled already; waits like the pool, and for answers too."""
        answered = self._answered()
        if self._trouble and not self._asked and not answered:
            raise self._trouble
        settled = []
        for one in self._pool.poll(0.0 if answered else timeout):
            if one.is_settled:
                settled.append(one)
            else:
                future = self._threads.submit(self._tell, one)
                self._asked[future] = one
                future.add_done_callback(lambda _: self._pool.wake())
        return settled + answered + self._answered()

    def finish(self) -> list[Prepared]:
        """Nothing more is begun, and what is under way is waited for: it may be paid for already."""
        settled = [one for one in self._pool.finish() if one.is_settled]
        self._cancel()
        wait(self._asked)
        return settled + self._answered()

    def wake(self) -> None:
        self._pool.wake()

    def going_on(self) -> AbstractContextManager[None]:
        return self._pool.going_on()

    def drop(self) -> list[Item]:
        """But what is being answered goes on: nobody asks for it twice."""
        return self._pool.drop() + self._cancel()

    def close(self) -> None:
        self._pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tell(self, one: Prepared) -> Told:
        begun = time.monotonic()
        outcome = self._ask(one.outcome)
        return Told(outcome, time.monotonic() - begun)

    def _cancel(self) -> list[Item]:
        """What nobody has begun yet."""
        with self._one_at_a_time:
            items, self._unanswered = self._unanswered, []
            return items + [self._asked.pop(future).item for future in list(self._asked) if future.cancel()]

    def _answered(self) -> list[Prepared]:
        found = []
        with self._one_at_a_time:
            for future in [future for future in self._asked if future.done()]:
                one = self._asked.pop(future)
                try:
                    told = future.result()
                except WorkerError as error:
                    self._trouble = self._trouble or error
                    self._unanswered.append(one.item)
                else:
                    found.append(Prepared(one.item, told.outcome, one.seconds + told.seconds))
        return found


def asker(task: MapTask[Any, Any]) -> Ask:
    """What the task answers to one sample; what it raises is its item's fault, or the machine's."""
    file = inspect.getfile(type(task))

    def ask(sample: object) -> Answer | Failure:
        try:
            (outcome,) = task.answer([sample])
            if not isinstance(outcome, Answer | Failure):
                raise TypeError(f"answer() gave a {type(outcome).__name__}, no Answer and no Failure")
            return outcome
        except WorkerError:
            raise
        except Exception as error:
            log.debug("answer failed", exc_info=True)
            return failure_of(error, file)

    return ask
