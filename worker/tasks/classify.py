"""classify: which class each picture is of, as a model says that classify-train made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from worker.engines.choice import Choice
from worker.errors import ItemError
from worker.items import Answer, Item, Json, Result
from worker.media.endings import PICTURES
from worker.media.rgb import Rgb
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.classification.engine import Classifier


class ClassifyParams(Params):
    top: int = Field(default=5, ge=1)
    """so many of the surest classes are told with their shares"""


class Classify(MapTask[ClassifyParams, Rgb]):
    name = "classify"
    about = "which class each picture is of, by a model that classify-train made"
    params_type = ClassifyParams
    suffixes = frozenset(PICTURES)
    engines: ClassVar = {"classifier": "worker.classification.engine:Classifier"}
    seconds_per_item = 0.2
    batch = 16

    def open(self, device: str) -> None:
        self._engine.open(device)

    def close(self) -> None:
        self._engine.close()

    def prepare(self, item: Item) -> Rgb:
        from worker.classification.datasets import squared
        from worker.media.picture import opened

        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        with opened(item.file) as picture:
            return squared(picture, self._engine.reader.side)

    def answer(self, samples: Sequence[Rgb]) -> Sequence[Answer]:
        return [self._told(shares) for shares in self._engine.answer(samples)]

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        said = (r.outcome.keys["class"] for r in results if isinstance(r.outcome, Answer))
        return {"classes": dict(sorted(Counter(said).items()))}

    def spent(self) -> Mapping[str, Json]:
        return getattr(self._engine, "about_loading", {})

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        return {"Class": keys["class"], "Share": f"{keys['share']:.1%}"}

    def _told(self, shares: Mapping[str, float]) -> Answer:
        surest = {name: round(share, 3) for name, share in [*shares.items()][: self.params.top]}
        name = next(iter(surest))
        return Answer({"class": name, "share": surest[name], "surest": surest})

    @cached_property
    def _engine(self) -> Classifier:
        from worker.classification.engine import Classifier

        return Classifier(self.choice or Choice("classifier"))
