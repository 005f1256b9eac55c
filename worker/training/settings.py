"""How to train: what a person writes into one YAML file, and what a DeepSpeed JSON says besides."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from worker.errors import ItemError, UnfitError
from worker.items import Json

log = logging.getLogger(__name__)

WRONG = "wrong-settings"
"""the kind of the failure"""
EFFECTIVE = 32
"""samples that make a step where a batch is as large as fits, and nobody said"""


class Section(BaseModel):
    """A part of the file. What it does not know has no effect, and is told."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _unsaid(cls, told: Json) -> Json:
        """A key with nothing behind it, such as a section whose lines are all comments, says nothing."""
        return (
            {name: one for name, one in told.items() if one is not None} if isinstance(told, dict) else told
        )


class Lora(Section):
    """Adapters: beside a matrix two thin ones learn, and their product is added."""

    rank: int = Field(default=16, ge=1)
    """how thin"""
    alpha: int = Field(default=32, ge=1)
    """their product counts alpha / rank times"""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: Literal["language", "all"] = "language"
    """beside the matrices of the language model's layers; all: of what sees too"""


class Training(Section):
    method: Literal["full", "lora", "qlora"] = "full"
    """lora: adapters learn and the model stays as it was; qlora: it has four bits besides (NF4)"""
    lora: Lora = Lora()
    num_epochs: float = Field(default=3.0, gt=0)
    max_steps: int = Field(default=0, ge=0)
    """0: as many as the epochs make"""
    learning_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """samples that one device computes at once; halved where they do not fit. auto: as many as fit"""
    measured: bool = False
    """auto"""
    effective_batch: int | None = Field(default=None, ge=1)
    """samples that make a step, on all devices together: it counts over gradient_accumulation_steps"""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """such batches that make a step; doubled when one is halved"""
    eval_batch_size: int | None = Field(default=None, ge=1)
    """None: as large as a batch"""
    warmup_steps: int = Field(default=0, ge=0)
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """0: gradients are not clipped"""
    gradient_checkpointing: bool = False
    memory_efficient_attention: bool = True
    """FlashAttention-2 where it works, else SDPA; false: eager"""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """in which products are computed; weights and optimiser have 32 bits. auto: bf16 on a card that has it,
    fp16 on others, fp32 on a CPU"""
    strategy: Literal["auto", "ddp", "zero2", "zero3", "fsdp2"] = "auto"
    """what several processes share; auto: ddp, or zero2 with an off-loaded optimiser"""
    offload_optimizer: bool = False
    """into the machine's memory; under fsdp2 the weights go there too"""
    deepspeed: Mapping[str, Any] = {}
    """its own configuration, for what is said nowhere else"""
    dataloader_num_workers: int | None = Field(default=None, ge=0)
    """None: what the machine has, up to 8 for a card, and none on a CPU"""
    save_steps: int = Field(default=200, ge=1)
    """steps between two checkpoints; one is made besides when it is told to stop, and of the best model"""
    seed: int = Field(default=42, ge=0, lt=1 << 32)

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, told: Json) -> Json:
        if not isinstance(told, dict) or told.get("batch_size") != "auto":
            return told
        return {"effective_batch": EFFECTIVE, **told, "batch_size": 1, "measured": True}


class Frequencies(Section):
    """In steps."""

    training_log_freq: int = Field(default=10, ge=1)
    eval_log_freq: int = Field(default=50, ge=1)
    perf_log_freq: int = Field(default=10, ge=1)


class Monitor(Section):
    all_freq: Frequencies = Frequencies()
    tensorboard: bool = True
    """where it is installed"""
    wandb: Literal["off", "offline", "online"] = "off"
    wandb_project: str = "worker"

    @field_validator("wandb", mode="before")
    @classmethod
    def _off(cls, told: Json) -> Json:
        """An `off` without quotes is YAML's word for false."""
        return "off" if told is False else told


S = TypeVar("S", bound=Section)


def read(file: Path, kind: type[S]) -> S:
    import yaml

    class Once(yaml.SafeLoader):
        """Of two sections of one name it would take the second, and the first would be lost."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [name for name in names if names.count(name) > 1]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{twice[0]} stands there twice", node.start_mark
                )
            return super().construct_mapping(node, deep)

    try:
        told = yaml.load(file.read_text(encoding="utf-8"), Once)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ItemError(WRONG, f"{file.name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict):
        raise ItemError(WRONG, f"{file.name} is no mapping: it has sections such as training:")
    for name in unknown(told, kind):
        log.warning("%s: %s is not known here and has no effect", file.name, name)
    return checked(file.name, told, kind)


def checked(name: str, told: Mapping[str, Json], kind: type[S]) -> S:
    try:
        return kind.model_validate(dict(told))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "it"
        raise ItemError(WRONG, f"{name}: {where}: {wrong['msg']}") from None


def unknown(told: Mapping[str, Json], kind: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, value in told.items():
        field = kind.model_fields.get(name)
        if field is None:
            yield f"{above}{name}"
        elif isinstance(value, dict):
            *_, kind_of = (field.annotation, *get_args(field.annotation))
            if isinstance(kind_of, type) and issubclass(kind_of, BaseModel):
                parts = (
                    {name: value}
                    if kind_of is field.annotation
                    else {f"{name}.{k}": v for k, v in value.items()}
                )
                for where, part in parts.items():
                    yield from unknown(part, kind_of, f"{above}{where}.") if isinstance(part, dict) else ()


@dataclass(frozen=True, slots=True)
class DeepSpeed:
    """What DeepSpeed's own JSON says of the same things. Its word counts over the YAML's."""

    batch: int | None
    accumulation: int | None
    together: int | None
    """samples that make a step, on all devices"""
    stage: int
    """of ZeRO"""
    offload: bool
    precision: Literal["bf16", "fp16"] | None
    told: Mapping[str, Json]
    """all of it"""

    @classmethod
    def read(cls, file: Path) -> DeepSpeed:
        try:
            told: Any = json.loads(file.read_bytes())
            zero = told.get("zero_optimization") or {}
            found = cls(
                _number(told, "train_micro_batch_size_per_gpu"),
                _number(told, "gradient_accumulation_steps"),
                _number(told, "train_batch_size"),
                _stage(zero.get("stage", 0)),
                (zero.get("offload_optimizer") or {}).get("device", "none") != "none",
                next((one for one in ("bf16", "fp16") if (told.get(one) or {}).get("enabled") is True), None),
                told,
            )
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ItemError(WRONG, f"{file.name} is no DeepSpeed configuration: {error}") from None
        if zero.get("offload_param") and found.stage != 3:
            raise ItemError(
                WRONG, f"{file.name}: to off-load parameters needs ZeRO-3, and it says {found.stage}"
            )
        return found

    def over(self, training: Training) -> Training:
        said: dict[str, Any] = {
            "batch_size": self.batch,
            "gradient_accumulation_steps": self.accumulation,
            "precision": self.precision,
            "strategy": f"zero{max(2, self.stage)}" if self.stage else None,
            "offload_optimizer": self.offload or None,
            "deepspeed": self.told,
            "measured": None if self.batch is None else False,
        }
        changed = {name: one for name, one in said.items() if one is not None}
        if self.accumulation and not changed.get("measured", training.measured):
            changed["effective_batch"] = None  # else it would count over the accumulation
        return training.model_copy(update=changed)

    def accumulated(self, training: Training, devices: int) -> Training:
        """As many samples a step as it says, on however many devices: more of them one after the other."""
        if self.together is None:
            return training
        at_once = training.batch_size * devices
        if self.together % at_once:
            wrong = f"train_batch_size {self.together} is no multiple of {training.batch_size}"
            if self.together % training.batch_size:
                raise ItemError(WRONG, wrong)
            raise UnfitError(f"{wrong} on {devices} devices: take a number of them that divides it")
        changed = {"gradient_accumulation_steps": self.together // at_once, "effective_batch": self.together}
        return training.model_copy(update=changed)


def _number(told: Mapping[str, Json], name: str) -> int | None:
    """`auto`: as the YAML says."""
    value = told.get(name)
    if value in (None, "auto"):
        return None
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}, and no whole number from 1 on")
    return value


def _stage(value: Json) -> int:
    if value not in (0, 1, 2, 3):
        raise ValueError(f"zero_optimization.stage is {value!r}, and there are 0, 1, 2 and 3")
    return int(value)
