"""The thread that has the device: the task is opened there, answers there, and is closed there.

It is one thread for all of that because libraries keep things for each: a current device, a gradient mode.
Meanwhile the loop goes on: it claims, feeds the children and writes, so that the next batch is ready.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from worker.blame import failure_of
from worker.errors import WorkerError
from worker.items import UNANSWERED, Answer, Failure, Json
from worker.pool import Prepared
from worker.tasks.task import MapTask

CLOSE_S = 5.0
"""for a batch that is in the way of closing, and was told to stop"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What came back."""

    samples: Sequence[Prepared]
    outcomes: Sequence[Answer | Failure]
    seconds: float

    @property
    def each(self) -> float:
        return self.seconds / len(self.samples)


class Device:
    """Answers one batch at a time. Its `value` is the last sign of life from there (signs.Stamp)."""

    def __init__(
        self, task: MapTask[Any, Any], batch: int | None = None, thread: Executor | None = None
    ) -> None:
        """`batch`: None is what the task likes at the moment."""
        self.task = task
        task.wanted_batch = batch
        self.value = 0.0
        self.free_since = 0.0
        """when the last batch ended there"""
        self._file = inspect.getfile(type(task))
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="device")
        self._answering: Future[None] | None = None
        self._done: deque[Batch] = deque()
        self._begun, self._samples = 0.0, 0
        self._is_open = False
        self._stopping = False

    def open(self, device: str) -> None:
        self._thread.submit(self.task.open, device).result()
        self._is_open = True

    def spent(self) -> Mapping[str, Json]:
        """From any thread, also while it opens."""
        return self.task.spent() if self._is_open else {}

    def close(self) -> None:
        """A batch that does not end is left to the end of the process."""
        if self._answering:
            self.stop()
            if wait([self._answering], CLOSE_S).not_done:
                log.warning("the device is not given back: a batch is still there")
                return
        self._thread.submit(self.task.close).result()

    def stop(self) -> None:
        """From any thread: the batch that is there shall end soon."""
        self._stopping = True
        self.task.stop()

    @property
    def batch(self) -> int:
        return self.task.wanted_batch or self.task.batch

    @property
    def takes(self) -> int:
        """So many samples are answered together."""
        return self.batch

    @property
    def at_once(self) -> int:
        """So many batches may be there."""
        return 1

    @property
    def hand(self) -> Sequence[Prepared]:
        """What is there while there is room for more."""
        return ()

    @property
    def is_full(self) -> bool:
        return self.busy

    @property
    def busy(self) -> bool:
        return self._answering is not None

    @property
    def samples(self) -> int:
        """That are there."""
        return self._samples if self.busy else 0

    @property
    def busy_s(self) -> float:
        """How long they have been there."""
        return time.monotonic() - self._begun if self.busy else 0.0

    def is_silent(self, since: float) -> bool:
        """A batch is there, and has shown no sign of life: it may hang."""
        return self._answering is not None and not self._answering.done() and self.value <= since

    def begin(self, samples: Sequence[Prepared], ring: Callable[[], None]) -> None:
        """A batch, or several that take no time. `ring`: called from some thread, when there is no more."""
        assert not self.busy
        self._begun, self._samples = time.monotonic(), len(samples)
        self._alive()
        self._answering = self._thread.submit(self._answer, samples)
        self._answering.add_done_callback(lambda _: ring())

    def collect(self) -> list[Batch]:
        """What is answered. Raises what ails the machine, once all that was answered is collected."""
        ended = self._answering if self._answering and self._answering.done() else None
        done = [self._done.popleft() for _ in range(len(self._done))]
        if ended and not (done and ended.exception()):
            self._answering = None
            ended.result()
        return done

    # in its thread

    def _answer(self, samples: Sequence[Prepared]) -> None:
        try:
            while samples:
                size, begun = self.takes, time.monotonic()
                outcomes = self._outcomes(samples[:size])
                self._done.append(Batch(samples[:size], outcomes, time.monotonic() - begun))
                samples = samples[size:]
        finally:
            self.free_since = time.monotonic()

    def _outcomes(self, samples: Sequence[Prepared]) -> list[Answer | Failure]:
        """The task's answers; when a batch fails as a whole each of its items is tried alone."""
        if self._stopping:
            return [UNANSWERED] * len(samples)
        try:
            outcomes = list(self.task.answer([one.outcome for one in samples]))
            if len(outcomes) != len(samples):
                raise TypeError(f"{len(outcomes)} answers to {len(samples)} samples")
            for outcome in outcomes:
                if not isinstance(outcome, Answer | Failure):
                    raise TypeError(f"answer() gave a {type(outcome).__name__}, no Answer and no Failure")
            return outcomes
        except WorkerError:  # no item's fault, and none fares better alone
            if self._stopping:
                return [UNANSWERED] * len(samples)
            raise
        except Exception as error:
            log.debug("answer failed", exc_info=True)
            failure = failure_of(error, self._file)
        # behind it: an exception in hand holds on to all that the batch had on the device
        if len(samples) > 1:
            return [outcome for one in samples for outcome in self._one_by_one(one)]
        return [failure]

    def _one_by_one(self, one: Prepared) -> list[Answer | Failure]:
        self._alive()  # each may take as long as the batch
        return self._outcomes([one])

    def _alive(self) -> None:
        self.value = time.monotonic()
