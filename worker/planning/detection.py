"""A small detector, trained on many small cards, and exported."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import ClassVar, Literal

from pydantic import Field

from worker.planning import ram
from worker.planning.disk import ENVIRONMENT, Disk, Kept
from worker.planning.machine import Machine
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly
from worker.planning.work import Asked, Change, Needs, Work, other
from worker.tasks.task import Params

PARAMETERS = 2_624_080
"""of YOLO11n with 80 classes, as ultralytics counts them"""
FLOPS = 6.54e9
"""of one picture of 640 x 640, counted by torch: 2 for each product that is added"""
SAVED = 223e6
"""bytes in fp32 that a picture of 640 x 640 leaves for the gradients, counted by torch"""
AMP = 0.6
"""of them are left in fp16: batch norm and the losses stay in fp32"""
WORK = 1.3
"""with gradients on their way, and what cuDNN borrows"""
LOSSES = 12e6
"""bytes a picture: each anchor against each object"""
CONTEXT = 1.0e9
STATE = 4 + 4 + 8 + 4
"""bytes of a number: itself, its gradient, Adam's moments, its running mean"""
BATCHES = {320: 32, 480: 24, 640: 16, 800: 8}
"""on a card of 8 GB, by the picture's size"""
_SHARE = Span(0.02, 0.08)
"""of the card's peak: a small net's layers wait for memory"""
_MANY = Span(0.75, 0.95)
"""85 % in the middle: 13.6 times one card with 16"""
_LOADED_S = Span(0.004, 0.02)
"""CPU seconds a picture: four are read and put together"""
_EPOCH_S = Span(1, 8)
"""of each epoch: testing begins, weights are saved"""


class DetectionParams(Params):
    imgsz: int = Field(default=640, ge=32)
    epochs: int = Field(default=100, ge=1)
    batch: int | None = Field(default=None, ge=1)
    """on each card; none: what is known to fit 8 GB"""
    amp: bool = True
    cache: Literal["none", "ram", "disk"] = "ram"
    picture_mb: float = Field(default=0.3, gt=0)
    """of a picture's file"""
    step_ms: float | None = Field(default=None, gt=0)
    """of one batch on one card, where it was measured"""
    scaling: float | None = Field(default=None, gt=0, le=1)
    """what each card keeps of its pace, where it was measured"""


class DetectionTrain(Work[DetectionParams]):
    name = "detect-train"
    about = "train YOLO11n on one or many cards"
    params_type = DetectionParams
    most: ClassVar[int] = 128

    def batch(self, params: DetectionParams, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        return params.batch or _batch(params.imgsz)

    def needs(self, asked: Asked[DetectionParams]) -> Needs:
        params, machine = asked.params, asked.machine
        pictures = 1000 if asked.items is None else asked.items
        cached = pictures * 3.0 * params.imgsz**2
        memory = {
            "processes": ram.PROCESS * machine.gpus,
            "data loader": ram.LOADER * machine.cores,
        }
        if params.cache == "ram":
            memory["cache of pictures, in each process"] = cached * machine.gpus
        held = [Kept("data", pictures * params.picture_mb * 1e6, ()), Kept("environment", ENVIRONMENT, ())]
        held.append(Kept("best, last and every tenth epoch", 6e6 * (2 + params.epochs / 10), ()))
        if params.cache == "disk":
            held.append(Kept("cache of pictures", cached, ()))
        notes = ["AMP in fp16: this card has no bf16"] if machine.gpu and not machine.gpu.bf16 else []
        return Needs(
            gpu=_memory(asked),
            ram=memory,
            disk=Disk(held),
            seconds=_time(asked, pictures),
            notes=[*notes, f"{asked.batch * machine.gpus} pictures a step"],
            error="30 %",
        )

    def changes(self, asked: Asked[DetectionParams]) -> Iterator[Change]:
        if not asked.params.amp:
            yield Change("--set amp=true", other(asked, amp=True))
        for size in sorted(BATCHES, reverse=True):
            if size < asked.params.imgsz:
                yield Change(f"--set imgsz={size}", other(asked, imgsz=size))
        if asked.params.cache == "ram":
            yield Change("--set cache=disk", other(asked, cache="disk"))


def _batch(imgsz: int) -> int:
    """That of the next larger size that is known; beyond the largest as many pixels as there."""
    larger = [size for size in BATCHES if size >= imgsz]
    return BATCHES[min(larger)] if larger else max(1, int(BATCHES[800] * (800 / imgsz) ** 2))


def _memory(asked: Asked[DetectionParams]) -> dict[str, float]:
    share = (asked.params.imgsz / 640) ** 2
    kept = SAVED * share * (AMP if asked.params.amp else 1)
    return {
        "weights, gradients, optimiser": PARAMETERS * STATE,
        "activations": asked.batch * kept * WORK,
        "losses": asked.batch * LOSSES * share,
        "context": CONTEXT,
    }


def _time(asked: Asked[DetectionParams], pictures: int) -> dict[str, Span]:
    params, machine = asked.params, asked.machine
    if machine.gpu is None:
        return {}
    steps = ceil(pictures / (asked.batch * machine.gpus))
    if params.step_ms:
        step = exactly(params.step_ms / 1000)
    else:
        once = 3 * FLOPS * (params.imgsz / 640) ** 2 * asked.batch
        step = exactly(once / machine.gpu.flops).over(_SHARE)
    if machine.gpus > 1:
        step = step.over(exactly(params.scaling) if params.scaling else _MANY)
    loaded = _LOADED_S * (asked.batch * machine.gpus / machine.cores)
    epoch = step.slower(loaded) * steps + _EPOCH_S
    return {"start": Span(20, 120), "training": epoch * params.epochs}


class ExportParams(Params):
    imgsz: int = Field(default=640, ge=32)
    format: Literal["onnx", "engine"] = "onnx"
    """engine: TensorRT's, for the card it is made on"""


class DetectionExport(Work[ExportParams]):
    name = "detect-export"
    about = "export a trained detector to ONNX or TensorRT"
    params_type = ExportParams
    most = 1

    def needs(self, asked: Asked[ExportParams]) -> Needs:
        builds = asked.params.format == "engine"
        return Needs(
            gpu={"weights": PARAMETERS * 4.0, "trying kernels": 2e9, "context": CONTEXT} if builds else {},
            ram={"process": ram.PROCESS},
            seconds={"building": Span(60, 900)} if builds else {"writing": Span(10, 60)},
            notes=["a TensorRT engine works on the kind of card that it was built on"] if builds else [],
            error="30 %",
        )
