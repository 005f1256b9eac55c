"""For tasks that prepare nothing: items pass straight through, and no child process is started."""

from __future__ import annotations

import threading

from worker.items import Item
from worker.pool import Prepared


class Passing:
    """What a Pool looks like when there is nothing to prepare."""

    def __init__(self) -> None:
        self._items: list[Prepared] = []
        self._woken = threading.Event()

    @property
    def under_way(self) -> int:
        return len(self._items)

    def submit(self, item: Item) -> None:
        self._items.append(Prepared(item, item, 0.0))

    def poll(self, timeout: float) -> list[Prepared]:
        if not self._items:
            self._woken.wait(timeout)
            self._woken.clear()
        items, self._items = self._items, []
        return items

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        """There is no process to end."""

    def drop(self) -> list[Item]:
        items, self._items = self._items, []
        return [one.item for one in items]
