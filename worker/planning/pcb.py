"""Boards and their defects: a language model is trained on them, merged, made small, and asked."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import ClassVar, Literal, Protocol

from pydantic import Field

from worker.hardware import stacks
from worker.planning import ram, seconds
from worker.planning.disk import ENVIRONMENT, Disk, Kept
from worker.planning.machine import Machine
from worker.planning.memory import (
    ADAM,
    BYTES,
    CONTEXT,
    HALF,
    Form,
    Lesson,
    Question,
    adapters,
    answering,
    training,
    weights,
)
from worker.planning.seconds import Seen
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly
from worker.planning.work import Asked, Change, Needs, P, Work, other, smaller
from worker.tasks.task import Params

STEPS = ("train", "merge", "quantise", "inspect")
_STORED: tuple[Form, ...] = ("none", "awq")
DATA = 5e9
"""DeepPCB, its templates, and what they are converted into"""
_COPIES = Span(0.06, 1.5)
"""GB a second, read or written: a rented network disk, a good NVMe"""
_AWQ_TRIALS = 20
"""ways that AWQ tries for each group of matrices, each with one pass of what it is calibrated with"""
_AWQ_SHARE = Span(0.05, 0.25)
"""of the card's peak: small batches, layers that come and go"""


class BoardParams(Params):
    pixels: int = Field(default=640, ge=32)
    """of a picture's side"""
    pictures: int = Field(default=1, ge=1)
    """in a sample: 2 with the template beside the board"""
    words: int = Field(default=200, ge=1)
    """tokens of a sample besides its pictures"""
    rank: int = Field(default=16, ge=1)
    """of the adapters"""
    keep: int = Field(default=2, ge=1)
    """checkpoints"""


class TrainParams(BoardParams):
    method: Literal["qlora", "lora", "full"] = "qlora"
    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int = Field(default=16, ge=1)
    """batches that make a step, on each card"""
    gradient_checkpointing: bool = True
    sharding: Literal["none", "zero2", "zero3"] = "none"


class InspectParams(BoardParams):
    quantise: Literal["none", "nf4", "awq"] = "awq"
    said_low: int = Field(default=60, ge=1)
    said_high: int = Field(default=240, ge=1)
    """tokens of an answer: of three boxes, of twelve"""


class QuantiseParams(BoardParams):
    samples: int = Field(default=256, ge=1)
    tokens: int = Field(default=1024, ge=16)
    """of each, to calibrate with"""


class Pictured(Protocol):
    """What a sample consists of."""

    @property
    def pixels(self) -> int: ...
    @property
    def pictures(self) -> int: ...
    @property
    def words(self) -> int: ...


def seen_of(shape: Shape, params: Pictured) -> tuple[Seen, int]:
    """What is seen of a sample, and its tokens, words included."""
    side = max(1, round(params.pixels / (shape.eye.patch * shape.eye.merge))) * shape.eye.merge
    seen = Seen((1, side, side), params.pictures)
    return seen, seen.patches // shape.eye.merge**2 + params.words


def disk(shape: Shape, step: str, rank: int, keep: int, asked: Form = "awq") -> Disk:
    """The base is the hub's cache's own, and lies there once. `asked`: what boards are shown to."""
    whole, small = (sum(weights(shape, form).values()) for form in _STORED)
    checkpoint = adapters(shape, rank) * (4 + ADAM)
    return Disk(
        [
            Kept("base, in the hub's cache", whole, STEPS[:2], cached=True),
            Kept(f"{keep} checkpoints, and one that is being written", checkpoint * (keep + 1), STEPS[:2]),
            Kept("merged weights", whole, STEPS[1:3] if asked == "awq" else STEPS[1:]),
            *([Kept("quantised weights", small, STEPS[2:])] if asked == "awq" else []),
            *([Kept("environment that quantises", ENVIRONMENT, STEPS[2:3])] if asked == "awq" else []),
            Kept("data", DATA, ()),
            Kept("environment", ENVIRONMENT, ()),
        ],
        step,
        STEPS,
    )


class Board(Work[P]):
    model: ClassVar[str | None] = "qwen3-vl-32b"


class PcbTrain(Board[TrainParams]):
    name = "pcb-train"
    about = "fine-tune a vision language model on PCB defects: QLoRA, LoRA or in full"
    params_type = TrainParams

    def batch(self, params: TrainParams, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        return params.batch_size

    def needs(self, asked: Asked[TrainParams]) -> Needs:
        params, shape, machine = asked.params, asked.shape, asked.machine
        assert shape
        seen, tokens = seen_of(shape, params)
        lesson = Lesson(asked.batch, tokens, seen.patches, checkpointing=params.gradient_checkpointing)
        gpu = training(
            shape, params.method, lesson, rank=params.rank, cards=machine.gpus, sharding=params.sharding
        )
        samples = params.batch_size * params.gradient_accumulation_steps
        share = ceil(samples / asked.batch)
        notes = [f"{tokens} tokens a sample; {samples} a step: {share} times {asked.batch} on each card"]
        if machine.gpu and not machine.gpu.bf16:
            notes.append("this card has no bf16: fp16 with scaled losses, and no FlashAttention-2")
        return Needs(
            gpu=gpu,
            ram={
                "processes": ram.PROCESS * machine.gpus,
                "a file of weights": ram.SHARD * machine.gpus,
                "data loader": 2 * ram.LOADER * machine.gpus,
            },
            disk=disk(shape, "train", params.rank, params.keep),
            seconds=self._time(asked, shape, seen, tokens),
            notes=notes,
        )

    def _time(self, asked: Asked[TrainParams], shape: Shape, seen: Seen, tokens: int) -> dict[str, Span]:
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
            checkpointing=params.gradient_checkpointing,
        )
        # a step is as many samples as said, whatever fits at once
        samples = params.steps * params.batch_size * params.gradient_accumulation_steps
        stored = sum(weights(shape, "none").values())
        return {"start and loading": seconds.loading(stored), "training": each * samples}

    def changes(self, asked: Asked[TrainParams]) -> Iterator[Change]:
        params = asked.params
        if not params.gradient_checkpointing:
            yield Change("--set gradient_checkpointing=true", other(asked, gradient_checkpointing=True))
        if params.method == "full" and params.sharding != "zero3" and asked.machine.gpus > 1:
            yield Change("--set sharding=zero3", other(asked, sharding="zero3"))
        if params.method != "qlora":
            yield Change("--set method=qlora", other(asked, method="qlora"))
        if params.pixels > 448:
            yield Change("--set pixels=448", other(asked, pixels=448))
        yield from smaller(asked)


class PcbMerge(Board[BoardParams]):
    name = "merge"
    about = "merge the adapters into the full-precision base, file by file"
    params_type = BoardParams
    most = 1

    def needs(self, asked: Asked[BoardParams]) -> Needs:
        shape = asked.shape
        assert shape
        whole = sum(weights(shape, "none").values())
        return Needs(
            ram={"process": ram.PROCESS, "a file, read and merged": 2 * ram.SHARD},
            disk=disk(shape, "merge", asked.params.rank, asked.params.keep),
            seconds={"reading, merging, writing": exactly(2 * whole / 1e9).over(_COPIES)},
            notes=["no GPU is needed; merging into the 4-bit base would lose accuracy"],
        )


class PcbQuantise(Board[QuantiseParams]):
    name = "quantise"
    about = "make the merged model 4 bits by AWQ, layer by layer"
    params_type = QuantiseParams
    most = 1

    def needs(self, asked: Asked[QuantiseParams]) -> Needs:
        params, shape = asked.params, asked.shape
        assert shape
        whole = sum(weights(shape, "none").values())
        layer = shape.parameters.linear / shape.layers
        tokens = params.samples * params.tokens
        gpu = asked.machine.gpu
        work = {}
        if gpu:
            trials = 2 * shape.parameters.linear * tokens * _AWQ_TRIALS
            tried = exactly(trials / gpu.flops).over(_AWQ_SHARE)
            work = {"start and loading": seconds.loading(whole), "calibrating, trying": tried}
        return Needs(
            gpu={
                # a layer as it is, the copy that is tried, and what it would give in 32 bits
                "a layer": layer * (HALF + HALF + 4),
                "what goes into it": 2 * tokens * shape.hidden * HALF,
                "between its matrices": params.tokens * 8 * shape.inner * 4,
                "vision": shape.parameters.vision * HALF,
                "context": CONTEXT,
            },
            ram={"the model": whole, "process": ram.PROCESS, "a file that is written": ram.SHARD},
            disk=disk(shape, "quantise", params.rank, params.keep),
            seconds=work,
            notes=["layers go to the card one by one, the model stays in RAM", *_damage(asked.machine.hw)],
            error="30 %",
        )

    def changes(self, asked: Asked[QuantiseParams]) -> Iterator[Change]:
        if asked.params.samples > 64:
            yield Change("--set samples=64", other(asked, samples=64))


def _damage(hw: str) -> list[str]:
    writes = stacks.stack_of(hw).quantise.get("llmcompressor", "")
    if not writes.startswith("0.9."):
        return []
    return [f"llm-compressor {writes} damages weights that lie in RAM: the task copies them, and compares"]


class PcbInspect(Board[InspectParams]):
    name = "pcb-inspect"
    about = "find the defects of boards: boxes, types, a hint how to repair"
    params_type = InspectParams

    def batch(self, params: InspectParams, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        return 1

    def needs(self, asked: Asked[InspectParams]) -> Needs:
        params, shape, machine = asked.params, asked.shape, asked.machine
        assert shape
        form: Form = params.quantise
        seen, tokens = seen_of(shape, params)
        question = Question(tokens, params.said_high, seen.patches)
        notes, work = [], {}
        if machine.gpu:
            said = Span(params.said_low, params.said_high)
            each = seconds.answering(
                shape, form, machine.gpu, seen, question, said, asked.batch, machine.reached
            )
            boards = 1000 if asked.items is None else asked.items
            stored = shape.parameters.linear * BYTES[form] + shape.parameters.whole * HALF
            work = {"start and loading": seconds.loading(stored)}
            work |= {name: span * (boards / machine.gpus) for name, span in each.items()}
            one = each["vision"] + each["prefill"] + each["decoding"] * asked.batch
            notes.append(
                f"one board, at {asked.batch} at once: {one.low:.2f} to {one.high:.2f} s for "
                f"{params.said_low} to {params.said_high} tokens said"
            )
        return Needs(
            gpu=answering(shape, form, question, asked.batch),
            ram={
                "process": ram.PROCESS * machine.gpus,
                "a file of weights": ram.SHARD * machine.gpus,
            },
            disk=disk(shape, "inspect", params.rank, params.keep, form),
            seconds=work,
            notes=notes,
        )

    def changes(self, asked: Asked[InspectParams]) -> Iterator[Change]:
        if asked.params.quantise == "none":
            yield Change("--set quantise=awq", other(asked, quantise="awq"))
        yield from smaller(asked)
