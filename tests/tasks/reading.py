"""A task of files, for tests of the worker itself."""

from __future__ import annotations

from collections.abc import Sequence

from worker.errors import ItemError
from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class Loudness(Params):
    loud: bool = False


class ReadText(MapTask[Loudness, str]):
    name = "read-text"
    about = "reads a text in a child process"
    params_type = Loudness
    suffixes = frozenset({".text"})
    seconds_per_item = 15.0

    def prepare(self, item: Item) -> str:
        assert item.file
        text = item.file.read_text()
        if not text:
            raise ItemError("empty", "the file is empty (0 bytes)")
        return text.upper() if self.params_of(item).loud else text

    def answer(self, samples: Sequence[str]) -> Sequence[Answer | Failure]:
        return [Answer({"text": sample}) for sample in samples]
