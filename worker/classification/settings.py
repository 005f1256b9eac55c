"""What a person writes to have a classifier trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from worker.classification.verdict import OVERALL
from worker.errors import ItemError
from worker.items import Json
from worker.training.settings import WRONG, Monitor, Section, Training

PROMPT = "What is in this picture?"
LONGEST = 60
"""name of a data set"""


class Model(Section):
    pretrained_name: str
    """a folder, seen from the file, or a model of the hub that was fetched here (owner/name)"""
    num_labels: int | None = Field(default=None, ge=2)
    """None: as many as the data sets have"""
    classes: tuple[str, ...] = ()
    """their names in their order; empty: those of the data sets, sorted"""
    pixels: int = Field(default=448, ge=28, le=8192)
    """of a side that pictures are scaled to, whatever their proportions; made a multiple of a token's"""
    prompt: str = PROMPT


class Split(Section):
    train: Path
    test: Path
    root: Path | None = None
    """of the files that a CSV names; none of them may lie elsewhere. None: the CSV's own folder"""


class Classification(Section):
    model: Model
    training: Training = Training()
    monitor: Monitor = Monitor()
    datasets: Mapping[str, Split] = {}
    left_out_most: float = Field(default=1 / 3, ge=0, le=1)
    """the share of a data set's pictures that may be of no use; beyond it nothing is trained"""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, told: Json) -> Json:
        """`food101: data/food101` stands for its folders train and test."""
        sets = told.get("datasets") if isinstance(told, dict) else None
        if not isinstance(sets, dict):
            return told
        return {**told, "datasets": {name: split_of(one) for name, one in sets.items()}}


def require_names(sets: Mapping[str, Split]) -> None:
    """They become names of measurements and files."""
    for name in sets:
        if name == OVERALL or not 0 < len(name) <= LONGEST:
            raise ItemError(
                WRONG, f"a data set needs another name than {name!r}: 1 to {LONGEST} letters, not {OVERALL}"
            )


def split_of(told: Json) -> Json:
    return {"train": f"{told}/train", "test": f"{told}/test"} if isinstance(told, str) else told


def require_sets(settings: Classification, data: str) -> Mapping[str, Split]:
    if settings.datasets:
        require_names(settings.datasets)
        return settings.datasets
    if not data:
        raise ItemError(
            WRONG, "there is nothing to learn from: name datasets in the file, or --set data=FOLDER"
        )
    return {Path(data).name: Split.model_validate(split_of(data))}
