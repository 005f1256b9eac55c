"""A task that asks somebody else's model, for tests of that engine in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class Asking(MapTask[Params, Item]):
    name = "asking"
    about = "asks what a text says, and shows a picture"
    takes = "values"
    engines: ClassVar = {"openai": "worker.engines.openai:OpenAi"}
    seconds_per_item = 4.0
    batch = 4

    def open(self, device: str) -> None:
        from worker.engines.openai import OpenAi

        assert self.choice
        self._engine = OpenAi(self.choice)
        self._engine.open(device)

    def stop(self) -> None:
        self._engine.stop()

    def close(self) -> None:
        self._engine.close()

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        from worker.engines.engine import Request

        picture = np.zeros((32, 32, 3), np.uint8)
        replies = self._engine.answer([Request([picture], [1.0], item.input) for item in samples])
        return [one if isinstance(one, Failure) else Answer({"said": one.text}) for one in replies]
