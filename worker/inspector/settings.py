"""What a person writes to have an inspector trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from worker.errors import ItemError
from worker.items import Json
from worker.training import settings as training
from worker.training.settings import WRONG, Monitor, Section

log = logging.getLogger(__name__)

TRAIN, VAL = "train.jsonl", "val.jsonl"
"""as pcb-convert calls them"""


class Model(Section):
    name: str = Field(min_length=1)
    """a folder, seen from the file, or a model of the hub that was fetched here (owner/name)"""
    use_4bit: bool = True
    """QLoRA; false: LoRA beside a model of 16 bits"""
    device_map: Literal["auto"] = "auto"
    """which cards there are, --gpus says"""


class Training(training.Training):
    method: Literal["lora", "qlora"] = "qlora"
    """as use_4bit says"""
    learning_rate: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int = Field(default=16, ge=1)
    gradient_checkpointing: bool = True


class Data(Section):
    train: Path | None = None
    """chat samples, as pcb-convert writes them; seen from the file"""
    val: Path | None = None
    pictures: Path | None = None
    """the folder below which they name pictures: that of DeepPCB's list. None: the one of `train`"""
    turned: bool = True
    """each time a board comes it is flipped and turned by quarters by chance, and its boxes too"""


class Validation(Section):
    boards: int = Field(default=64, ge=0)
    """so many pictures of `val` are asked about in an evaluation, always the same ones; 0: the loss alone
    says how good a model is"""
    max_tokens: int = Field(default=512, ge=1)
    """of an answer"""


class Inspection(Section):
    model: Model
    training: Training = Training()
    data: Data = Data()
    validation: Validation = Validation()
    monitor: Monitor = Monitor()

    @model_validator(mode="before")
    @classmethod
    def _method(cls, told: Json) -> Json:
        """`use_4bit` is a word for one of two methods."""
        if not isinstance(told, dict):
            return told
        model, how = (told.get(name) or {} for name in ("model", "training"))
        if not isinstance(model, dict) or not isinstance(how, dict):
            return told
        said, bits = how.get("method"), _as_bool(model.get("use_4bit"))
        if said == "full":
            raise ValueError("training.method full: an inspector learns by adapters, lora or qlora")
        if said is not None and bits is not None and bits != (said == "qlora"):
            raise ValueError(f"training.method {said} and model.use_4bit {bits} contradict each other")
        method = said or ("lora" if bits is False else "qlora")
        return {**told, "training": {**how, "method": method}}


def _as_bool(told: Json) -> bool | None:
    """As pydantic reads it: `"no"` and 0 are false. None: it is none, and pydantic will say so."""
    try:
        return TypeAdapter(bool).validate_python(told)
    except ValidationError:
        return None


def told_over(settings: Inspection, data: str, pictures: str) -> Inspection:
    """`data`: a folder of pcb-convert, `pictures`: what counts over the file's."""
    over: dict[str, Any] = {}
    if data:
        over |= {"train": Path(data, TRAIN), "val": Path(data, VAL)}
    if pictures:
        over["pictures"] = Path(pictures)
    return settings.model_copy(update={"data": settings.data.model_copy(update=over)})


def require_data(data: Data) -> tuple[Path, Path]:
    if data.train is None or data.val is None:
        raise ItemError(
            WRONG,
            f"there is nothing to learn from: name data.train and data.val in the file, or --set data=FOLDER "
            f"with {TRAIN} and {VAL} as pcb-convert writes them",
        )
    return data.train, data.val
