"""A task of files that looks at what lies beside its own: for tests of inputs that are fetched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class Fetching(MapTask[Params, int]):
    name = "fetching"
    about = "counts the bytes of all inputs that are on the disk together with its own"
    suffixes = frozenset({".bin"})
    seconds_per_item = 15.0

    def prepare(self, item: Item) -> int:
        assert item.file
        time.sleep(60 if item.file.name == "hang.bin" else 0.3)
        together = 0
        for file in item.file.parents[1].glob("input-*/*"):
            with suppress(FileNotFoundError):
                together += file.stat().st_size
        return together

    def answer(self, samples: Sequence[int]) -> Sequence[Answer | Failure]:
        return [Answer({"together": sample}) for sample in samples]
