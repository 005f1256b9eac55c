"""A task that is asked with a model, and says where its worker found it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from worker.engines import trust
from worker.engines.engine import Engine
from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class Weights(Engine):
    about = "a folder of weights"
    model = "folder"


class Modelled(MapTask[Params, Item]):
    name = "modelled"
    about = "answers where the model lies, and what code may run"
    takes = "values"
    engines: ClassVar = {"weights": f"{__name__}:Weights"}

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        assert self.choice
        allowed = sorted(trust.parse(os.environ.get(trust.VARIABLE, "")))
        return [Answer({"at": str(self.choice.file), "allowed": allowed}) for _ in samples]
