"""Whether what was made small still finds what the merged model finds: both are asked about boards, as a
model is in the middle of its training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.inspector import samples, verdict
from worker.inspector.asking import ASKED, Asker, chosen
from worker.inspector.reading import Reader
from worker.inspector.samples import Sample, Shown
from worker.items import Json
from worker.training.world import World

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 4
_LONGEST = 512
"""tokens of an answer"""


@dataclass(frozen=True, slots=True)
class Score:
    """DeepPCB's F."""

    before: float
    after: float
    boards: int

    @property
    def lost(self) -> float:
        return self.before - self.after

    def document(self) -> dict[str, Json]:
        return {
            "f1_merged": self.before,
            "f1": self.after,
            "boards": self.boards,
        }


@dataclass(frozen=True, slots=True)
class Boards:
    """That are asked about: always the same ones."""

    reader: Reader
    rows: Sequence[Sample]

    @classmethod
    def of(cls, merged: Path, validation: Path, pictures: Path, count: int) -> Boards:
        reader = Reader.of(merged)
        return cls(reader, chosen(samples.read(validation, pictures, reader.sight), count))

    def f1(self, model: Any, alive: Callable[[], None]) -> float:
        one, takes = self.reader, inspect.signature(model.forward).parameters
        asker = Asker(model, _Asking(one.sight, one.tokenizer, one.end, takes), self.rows, _BATCH, _LONGEST)
        said = asker(World(), alive)[ASKED].outputs
        return verdict.measured(verdict.judge(self.rows, said))["f1"]


@dataclass(frozen=True, slots=True)
class _Asking(Reader):
    """transformers before 5, in which models are made small too, takes no kinds of tokens."""

    takes: Collection[str]

    def ask(self, shown: Sequence[Shown]) -> Mapping[str, Tensor]:
        return {name: one for name, one in Reader.ask(self, shown).items() if name in self.takes}
