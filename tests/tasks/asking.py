"""A task that asks somebody else's model, for tests of that engine in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.engines.openai import OpenAi


class Asking(MapTask[Params, Item]):
    name = "asking"
    about = "asks what a text says, and shows a picture"
    takes = "values"
    engines: ClassVar = {"openai": "worker.engines.openai:OpenAi"}
    seconds_per_item = 4.0

    @cached_property
    def _engine(self) -> OpenAi:
        from worker.engines.openai import OpenAi

        assert self.choice
        return OpenAi(self.choice)

    @property
    def at_once(self) -> int:  # type: ignore[override]
        return self._engine.at_once

    def open(self, device: str) -> None:
        self._engine.purse = self.purse
        self._engine.open(device)
        self.batch = self._engine.batch

    def stop(self) -> None:
        self._engine.stop()

    def close(self) -> None:
        self._engine.close()

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        from worker.engines.engine import Request

        picture = np.zeros((32, 32, 3), np.uint8)
        replies = self._engine.answer([Request([picture], [1.0], item.input) for item in samples])
        return [one if isinstance(one, Failure) else Answer({"said": one.text}) for one in replies]
