"""The one thread that talks to the store for the loop, so that the device never waits for a write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import ParamSpec, TypeVar

GIVE_UP_S = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Clerk:
    """Does what it is given in the order given. Claims and holdings belong to this thread alone."""

    def __init__(self, tick: Callable[[], None], most_waiting: int = 32) -> None:
        self._tick = tick
        self._most_waiting = most_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._waiting: deque[Future[object]] = deque()

    def later(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Hand over; waits only when the store is so far behind that memory would grow. Nothing, once closed:
        another thread has handed back."""
        with suppress(RuntimeError):
            self._waiting.append(self._thread.submit(call, *args, **kwargs))
        self.check()
        while len(self._waiting) > self._most_waiting:
            patiently(self._waiting.popleft(), self._tick)

    def check(self) -> None:
        """Raise here what went wrong with anything that was handed over."""
        while self._waiting and self._waiting[0].done():
            patiently(self._waiting.popleft(), self._tick)

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._thread.submit(call, *args, **kwargs)

    def now(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """After all that was handed over before; what went wrong there is raised here."""
        future = self._thread.submit(call, *args, **kwargs)
        self.drain()
        return patiently(future, self._tick)

    def drain(self) -> None:
        """Until all that was handed over is done."""
        while self._waiting:
            patiently(self._waiting.popleft(), self._tick)

    def give_up(self) -> None:
        """The store is lost to us: nothing more is written, and what is being written has a moment to end."""
        for future in self._waiting:
            future.cancel()
        with suppress(RuntimeError):  # closed: it had its moment
            wait([self._thread.submit(lambda: None)], timeout=GIVE_UP_S)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def patiently(future: Future[T], tick: Callable[[], None]) -> T:
    """Who waits for a store that is slow or away is not hanging: it says so every second."""
    while True:
        try:
            return future.result(timeout=1.0)
        except TimeoutError:
            if future.done():
                return future.result()
            tick()
