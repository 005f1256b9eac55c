"""The work of the worker that the doctor stops: items that take their time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class DoctorTrial(MapTask[Params, Item]):
    name = "doctor-trial"
    about = "what `worker doctor` stops, to see how long that takes"
    takes = "values"
    seconds_per_item = 0.1

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        time.sleep(0.1)
        return [Answer({"waited": True}) for _ in samples]
