"""A list of items on its way into shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from tempfile import SpooledTemporaryFile

from worker.errors import UsageError
from worker.items import Item
from worker.queue.shards import Packed, line, packed

MEMORY_MOST = 1 << 20


class Listing:
    """Each item once, in the order given. Of a million only the ids are in memory, the rest is in a file."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.given = 0
        """with those that came twice"""
        self._ids: dict[str, None] = {}
        self._lines = SpooledTemporaryFile(max_size=MEMORY_MOST)  # noqa: SIM115 - it goes with us
        for item in items:
            self.given += 1
            if item.id not in self._ids:
                self._ids[item.id] = None
                self._keep(line(item))

    @property
    def ids(self) -> Collection[str]:
        return self._ids.keys()

    def cut(self, size: int, without: Collection[str] = frozenset()) -> Iterator[Packed]:
        self._lines.seek(0)
        lines = (one for item, one in zip(self._ids, self._lines, strict=True) if item not in without)
        while some := list(islice(lines, size)):
            yield packed(some)

    def _keep(self, data: bytes) -> None:
        try:
            self._lines.write(data)
        except OSError as error:
            remedy = "make room there, or set TMPDIR"
            raise UsageError(
                f"the list does not fit into the temporary folder ({error.strerror}): {remedy}"
            ) from None
