"""A device that is somebody else's: several answers are waited for at a time, one begun as another ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from worker.device import CLOSE_S, Batch, Device
from worker.errors import WorkerError
from worker.pool import Prepared
from worker.tasks.task import MapTask


class Rolling(Device):
    """Each sample in a thread of its own: the slowest holds up no other. None is silent: whoever asks over a
    network has limits of its own."""

    def __init__(self, task: MapTask[Any, Any], batch: int | None = None) -> None:
        super().__init__(task, batch)
        self._threads = ThreadPoolExecutor(task.at_once, "asking")
        self._asked: dict[Future[None], Sequence[Prepared]] = {}
        self._trouble: WorkerError | None = None

    def close(self) -> None:
        if self._asked:
            self.stop()
            wait(self._asked, CLOSE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()

    @property
    def takes(self) -> int:
        return 1

    @property
    def at_once(self) -> int:
        return self.task.at_once

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    @property
    def hand(self) -> Sequence[Prepared]:
        return [one for samples in self._asked.values() for one in samples]

    @property
    def is_full(self) -> bool:
        return bool(self._trouble) or len(self._asked) >= self.at_once

    @property
    def samples(self) -> int:
        """None that the next one would have to wait for."""
        return 0

    @property
    def busy_s(self) -> float:
        return 0.0

    def is_silent(self, since: float) -> bool:  # noqa: ARG002
        return False

    def begin(self, samples: Sequence[Prepared], ring: Callable[[], None]) -> None:
        future = self._threads.submit(self._answer, samples)
        self._asked[future] = samples
        future.add_done_callback(lambda _: ring())

    def collect(self) -> list[Batch]:
        """What is answered. What ails the machine is raised when all who were asked have answered."""
        for future in [future for future in self._asked if future.done()]:
            del self._asked[future]
            try:
                future.result()
            except WorkerError as error:
                self._trouble = self._trouble or error
        done = [self._done.popleft() for _ in range(len(self._done))]
        if self._trouble and not self._asked and not done:
            raise self._trouble
        return done
