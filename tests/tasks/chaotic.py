"""The work of `make chaos`: quick, slow and failing items in shards of 16."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params

SLOW = "CHAOS_SLOW"
"""seconds that a slow item takes: in the environment, for they must not change what is answered"""


class Chaotic(MapTask[Params, Item]):
    name = "chaotic"
    about = "answers what its input asks for: quick, slow or bad"
    takes = "values"
    seconds_per_item = 3.75
    batch = 4

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        return [self._one(item.input) for item in samples]

    def _one(self, said: str) -> Answer | Failure:
        if said.startswith("slow"):
            time.sleep(float(os.environ.get(SLOW, "0")))
        return Failure("bad", f"{said} was asked for") if said.startswith("bad") else Answer({"said": said})
