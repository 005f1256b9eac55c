"""A vision language model with a head of classes, trained in full on several cards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from worker.planning import ram, seconds
from worker.planning.disk import ENVIRONMENT, Disk, Kept
from worker.planning.machine import Machine
from worker.planning.memory import ADAM, HALF, Lesson, Method, adapters, learnt, training, weights
from worker.planning.pcb import seen_of
from worker.planning.seconds import Seen
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly
from worker.planning.work import Asked, Change, Needs, Work, other, smaller
from worker.tasks.task import Params

PICTURES = 75_750
"""of Food-101, to train on; a third as many to test on"""


class ClassificationParams(Params):
    method: Literal["full", "lora", "qlora"] = "full"
    num_labels: int = Field(default=101, ge=2)
    num_epochs: float = Field(default=10, gt=0)
    batch: int = Field(default=8, ge=1)
    """on each card"""
    gradient_accumulation_steps: int = Field(default=4, ge=1)
    gradient_checkpointing: bool = True
    sharding: Literal["none", "zero2", "zero3"] = "zero2"
    offload: bool = False
    """the optimiser into the machine's memory"""
    num_workers: int = Field(default=16, ge=0)
    """that load pictures, all together"""
    pixels: int = Field(default=512, ge=32)
    """of a picture's side"""
    pictures: int = Field(default=1, ge=1)
    words: int = Field(default=40, ge=1)
    """tokens besides the picture"""
    rank: int = Field(default=16, ge=1)
    keep: int = Field(default=2, ge=1)
    """checkpoints"""
    data_gb: float = Field(default=5.0, ge=0)


class ClassificationTrain(Work[ClassificationParams]):
    name = "classify-train"
    about = "fine-tune a vision language model to classify pictures, on several cards"
    params_type = ClassificationParams
    model: ClassVar[str | None] = "qwen2.5-vl-7b"

    def batch(self, params: ClassificationParams, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        return params.batch

    def needs(self, asked: Asked[ClassificationParams]) -> Needs:
        params, shape, machine = asked.params, asked.shape, asked.machine
        assert shape
        seen, tokens = seen_of(shape, params)
        lesson = _lesson(asked.batch, tokens, seen, params)
        gpu = training(
            shape,
            params.method,
            lesson,
            rank=params.rank,
            cards=machine.gpus,
            sharding=params.sharding,
            offload=params.offload,
        )
        memory = {
            "processes": ram.PROCESS * machine.gpus,
            "a file of weights": ram.SHARD * machine.gpus,
            "data loader": ram.LOADER * params.num_workers,
        }
        if params.offload and params.method == "full":
            memory["optimiser"] = learnt(shape, lesson) * (4 + ADAM)
        at_once = asked.batch * params.gradient_accumulation_steps * machine.gpus
        return Needs(
            gpu=gpu,
            ram=memory,
            disk=_disk(shape, params.method, lesson, params),
            seconds=self._time(asked, shape, seen, tokens),
            notes=[f"{tokens} tokens a picture; {at_once} pictures a step"],
        )

    def _time(
        self, asked: Asked[ClassificationParams], shape: Shape, seen: Seen, tokens: int
    ) -> dict[str, Span]:
        params, machine = asked.params, asked.machine
        if machine.gpu is None:
            return {}
        each = seconds.learning(
            shape,
            params.method,
            machine.gpu,
            seen,
            tokens,
            asked.batch,
            cards=machine.gpus,
            words=False,
            checkpointing=params.gradient_checkpointing,
        )
        pictures = PICTURES if asked.items is None else asked.items
        forward = seconds.prefill_flops(shape, tokens) + seconds.vision_flops(shape, seen.grid, seen.views)
        tested = exactly(forward / machine.gpu.flops).over(seconds.ASSUMED.prefill)
        share = params.num_epochs * pictures / machine.gpus
        return {
            "start and loading": seconds.loading(sum(weights(shape, "none").values())),
            "training": each * share,
            "testing once an epoch": tested * (share / 3),
        }

    def changes(self, asked: Asked[ClassificationParams]) -> Iterator[Change]:
        params = asked.params
        if not params.gradient_checkpointing:
            yield Change("--set gradient_checkpointing=true", other(asked, gradient_checkpointing=True))
        if params.method == "full" and asked.machine.gpus > 1 and params.sharding == "none":
            yield Change("--set sharding=zero2", other(asked, sharding="zero2"))
        if params.method == "full" and asked.machine.gpus > 1 and params.sharding != "zero3":
            yield Change("--set sharding=zero3", other(asked, sharding="zero3"))
        if params.method == "full" and params.sharding != "none":
            more = 2 * asked.machine.gpus
            yield Change(f"--gpus {more}", replace(asked, machine=replace(asked.machine, gpus=more)))
        if params.method == "full" and not params.offload:
            yield Change("--set offload=true", other(asked, offload=True))
        if params.method == "full":
            yield Change("--set method=lora", other(asked, method="lora"))
        if params.method != "qlora":
            yield Change("--set method=qlora", other(asked, method="qlora"))
        yield from smaller(asked)


def _lesson(batch: int, tokens: int, seen: Seen, params: ClassificationParams) -> Lesson:
    return Lesson(batch, tokens, seen.patches, params.num_labels, params.gradient_checkpointing)


def _disk(shape: Shape, method: Method, lesson: Lesson, params: ClassificationParams) -> Disk:
    whole = sum(weights(shape, "none").values())
    if method == "full":
        checkpoint = learnt(shape, lesson) * (HALF + 4 + ADAM)
    else:
        checkpoint = adapters(shape, params.rank) * (4 + ADAM)
    return Disk(
        [
            Kept("base, in the hub's cache", whole, (), cached=True),
            Kept(
                f"{params.keep} checkpoints, and one that is being written",
                checkpoint * (params.keep + 1),
                (),
            ),
            Kept("data", params.data_gb * 1e9, ()),
            Kept("environment", ENVIRONMENT, ()),
        ]
    )
