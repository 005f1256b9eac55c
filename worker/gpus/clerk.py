"""One thread has the ledger's pen. What comes while it writes goes into its next turn: one fsync for many."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from worker.gpus.allocation import Allocation, Request, Waiting
from worker.gpus.diary import Change
from worker.gpus.keeper import Overtaken
from worker.gpus.ledger import Ledger
from worker.gpus.refusals import Reason, Refusal, Said

TICK_S = 1.0
MOST = 256
"""questions in a turn"""
IN_VAIN = Said("waited in vain", "等待超时")
CLOSED = Said("it was closed", "已关闭")

log = logging.getLogger(__name__)
T = TypeVar("T")
Question = tuple[Callable[[Ledger], Any], "Future[Any]"]
Told = tuple["Future[Any]", Any, BaseException | None]

AGAIN = Retrying(
    retry=retry_if_exception_type(Overtaken),
    wait=wait_random_exponential(multiplier=0.005, max=0.5),
    stop=stop_after_delay(30),
    reraise=True,
)


class Clerk:
    def __init__(self, ledger: Ledger, told: Callable[[Sequence[Change]], None] | None = None) -> None:
        """`told`: what changed, whoever wrote it, once it is on the disk."""
        self._ledger = ledger
        self._told = told
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._waiters: dict[str, tuple[Request, list[Future[Any]]]] = {}
        self._swept = 0.0
        self._closed = False
        self._closing = threading.Lock()
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def allocate(
        self, request: Request, key: str = "", patience_s: float = 0.0, less: Request | None = None
    ) -> Future[Allocation]:
        return cast(
            "Future[Allocation]", self.ask(lambda ledger: ledger.allocate(request, key, patience_s, less))
        )

    def ask(self, question: Callable[[Ledger], T]) -> Future[T]:
        """A ticket is no answer: who gets one hears more once it is granted, or its patience ends."""
        answer: Future[T] = Future()
        with self._closing:
            if not self._closed:
                self._questions.put((question, answer))
                return answer
        _tell(answer, None, Refusal(Reason.NOT_READY, why=CLOSED))
        return answer

    def close(self) -> None:
        """Everybody is answered, those too who wait in line."""
        with self._closing:
            self._closed = True
            self._questions.put(None)
        self._thread.join()
        self._ledger.close()

    def _work(self) -> None:
        going = True
        while going:
            asked = self._next()
            going = None not in asked
            self._turn([one for one in asked if one])
        for _, answers in self._waiters.values():
            for answer in answers:
                _tell(answer, None, Refusal(Reason.NOT_READY, why=CLOSED))

    def _next(self) -> list[Question | None]:
        found: list[Question | None] = []
        with suppress(queue.Empty):
            found.append(self._questions.get(timeout=TICK_S))
            while len(found) < MOST:
                found.append(self._questions.get_nowait())
        return found

    def _turn(self, questions: list[Question]) -> None:
        try:
            told = AGAIN(self._decide, questions)
        except Refusal as refused:  # nothing can be written down now
            self._worry(str(refused))
            told = [(answer, None, refused) for _, answer in questions]
        except Exception as error:  # the file, not a question: nothing of this turn happened
            log.exception("the ledger")
            told = [(answer, None, error) for _, answer in questions]
        else:
            self._worry("")
        for answer, value, refusal in told:
            if isinstance(value, Waiting):
                self._waiters.setdefault(value.ticket, (value.request, []))[1].append(answer)
            else:
                _tell(answer, value, refusal)
        self._look_after_waiters()
        changes = self._ledger.diary.take()
        if changes and self._told:
            self._told(changes)

    def _worry(self, trouble: str) -> None:
        """Once: the next turn is in a second."""
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble

    def _decide(self, questions: list[Question]) -> list[Told]:
        told: list[Told] = []
        with self._ledger.turn():
            due = time.monotonic() - self._swept >= TICK_S
            ended = self._ledger.sweep() if due else []
            for question, answer in questions:
                try:
                    told.append((answer, question(self._ledger), None))
                except Refusal as refused:
                    told.append((answer, None, refused))
        if due:
            self._swept = time.monotonic()
        for one in ended:
            log.info("the lease of %s (%s) ended", one.id, one.request)
        return told

    def _look_after_waiters(self) -> None:
        for ticket, (request, answers) in list(self._waiters.items()):
            if ticket in self._ledger.waiting:
                continue
            made = self._ledger.allocations.get(ticket)
            error = None if made else Refusal(Reason.BUSY, wanted=request, why=IN_VAIN)
            for answer in answers:
                _tell(answer, made, error)
            del self._waiters[ticket]


def _tell(answer: Future[Any], value: Any, error: BaseException | None) -> None:
    if answer.set_running_or_notify_cancel():
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(value)
