"""ghost-probing: clips that a language model is asked about, or that are looked at on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from worker.engines.choice import LOCAL
from worker.engines.qwen_sight import Sight
from worker.engines.resizing import PUBLISHED
from worker.engines.tiles import grid
from worker.errors import UsageError
from worker.hardware.gpus import Gpu
from worker.items import Json
from worker.planning import ram, seconds
from worker.planning.disk import ENVIRONMENT, Disk, Kept
from worker.planning.machine import Machine
from worker.planning.memory import Form, Items, Question, answering, weights
from worker.planning.seconds import Seen
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly, together
from worker.planning.work import Asked, Change, Needs, Work, other, smaller
from worker.tasks.ghost_probing import GhostProbingParams

CLIPS = 1019
SAID = Span(40, 250)
"""tokens of an answer: of a no, of two incidents"""
_TILE = 224
_TILES = 6
_VECTORS = 96
"""of a tile"""
_TILES_AT_ONCE = 10
"""of 32 frames, in VideoChat2's vision tower"""
_CPU_RATES = {"motion": 10.5, "detector": 5.2}
"""seconds of clips a CPU second: `make bench OF=ghosts`"""
_OTHER_CPUS = Span(0.7, 2)
_FRAME_TOKENS = 85
"""of GPT-4o and GPT-4.1, with detail: low"""
_CALL_S = Span(3, 20)


class GhostParams(GhostProbingParams):
    """The task's own, so that a recipe's fit here; those that cost nothing change nothing."""

    engine: Literal["motion", "detector", "qwen", "videochat2", "openai"] = "qwen"
    quantise: Literal["none", "nf4", "awq"] = "none"  # type: ignore[assignment]
    """awq: a checkpoint that is so already"""
    seconds_per_clip: float = Field(default=15.0, gt=0)
    width: int = Field(default=1280, ge=28)
    height: int = Field(default=720, ge=28)
    """of the clips, in pixels"""
    words: int = Field(default=600, ge=1)
    """tokens of the prompt besides the frames"""
    usd_in: float | None = Field(default=None, ge=0)
    usd_out: float | None = Field(default=None, ge=0)
    """of engine openai: USD a million tokens of question and of answer"""
    at_once: int = Field(default=8, ge=1)
    """of engine openai: questions under way"""


def params_of(engine: str, recipe: Mapping[str, Json]) -> GhostParams:
    """What a run's parameters say of what it needs."""
    return GhostParams.model_validate({"engine": engine, **recipe})


class GhostProbing(Work[GhostParams]):
    name = "ghost-probing"
    about = "find who comes suddenly out of a blind spot, in clips of 32 frames each"
    params_type = GhostParams

    def usual_model(self, params: GhostParams) -> str | None:
        return {"qwen": "qwen2.5-vl-7b", "videochat2": "videochat2-hd"}.get(params.engine)

    def needs(self, asked: Asked[GhostParams]) -> Needs:
        engine = asked.params.engine
        if engine in _CPU_RATES:
            return _looked_at(asked)
        if engine == "openai":
            return _called(asked)
        return _answered(asked)

    def changes(self, asked: Asked[GhostParams]) -> Iterator[Change]:
        params = asked.params
        if params.engine not in LOCAL:
            return
        if params.quantise == "none":
            yield Change("--set quantise=nf4", other(asked, quantise="nf4"))
        if params.frames > 8:
            yield Change("--set frames=8", other(asked, frames=8))
        if params.engine == "qwen":
            yield from smaller(asked)


def _clips(asked: Asked[GhostParams]) -> int:
    return CLIPS if asked.items is None else asked.items


def reading(asked: Asked[GhostParams], per_second: Span = seconds.READING_S) -> Span:
    lasts = _clips(asked) * asked.params.seconds_per_clip
    return per_second * (lasts / asked.machine.cores)


def _looked_at(asked: Asked[GhostParams]) -> Needs:
    per_second = exactly(1 / _CPU_RATES[asked.params.engine]) * _OTHER_CPUS
    return Needs(
        ram={"process": 0.3e9, "children": asked.machine.cores * ram.CHILD},
        disk=Disk([Kept("environment", 0.7e9, ())]),
        seconds={"looking, on the CPU": reading(asked, per_second)},
        notes=[f"{asked.machine.cores} cores; a GPU is of no use to this engine"],
    )


def _called(asked: Asked[GhostParams]) -> Needs:
    params, clips = asked.params, _clips(asked)
    fees = None
    if params.usd_in is not None and params.usd_out is not None:
        question = params.frames * _FRAME_TOKENS + params.words
        each = exactly(question * params.usd_in) + SAID * params.usd_out
        fees = each * (clips / 1e6)
    calls = _CALL_S * (clips / params.at_once)
    return Needs(
        ram={"process": 0.3e9, "children": asked.machine.cores * ram.CHILD},
        disk=Disk([Kept("environment", 0.7e9, ())]),
        seconds={"calls, or reading": calls.slower(reading(asked))},
        fees=fees,
        rented=False,
        notes=[] if fees else ["the fees: --set usd_in=… --set usd_out=…, USD a million tokens"],
    )


def seen_by(shape: Shape, params: GhostParams) -> tuple[Seen, int]:
    """What is seen of a clip, and how many tokens that becomes."""
    if shape.family == "videochat2":
        columns, rows = grid(params.width, params.height, _TILE, _TILES)
        views, side = columns * rows + 1, _TILE // shape.eye.patch
        # what is attended to at once is all of a tile's frames
        return Seen((1, side * params.frames, side), views), views * _VECTORS
    eye = shape.eye
    sight = Sight("qwen3_vl", eye.patch, eye.merge, eye.frames, 1, (), (), PUBLISHED["qwen3-vl"])
    width, height = sight.frame_size(params.width, params.height)
    seen = Seen(sight.grid(params.frames, width, height))
    return seen, seen.patches // eye.merge**2


def memory(shape: Shape, params: GhostParams, batch: int) -> Items:
    """Bytes of one card."""
    _, question = _question(shape, params, batch)
    return answering(shape, form(shape, params), question, batch)


def _question(shape: Shape, params: GhostParams, batch: int) -> tuple[Seen, Question]:
    seen, tokens = seen_by(shape, params)
    at_once = _at_once(shape, seen, batch)
    return seen, Question(tokens + params.words, params.max_tokens, at_once)


def _answered(asked: Asked[GhostParams]) -> Needs:
    params, shape = asked.params, asked.shape
    assert shape
    if (shape.family == "videochat2") != (params.engine == "videochat2"):
        raise UsageError(f"engine {params.engine} does not take {shape.name}")
    kind = form(shape, params)
    seen, question = _question(shape, params, asked.batch)
    stored = sum(weights(shape, "none" if kind == "nf4" else kind).values())
    gpu = asked.machine.gpu
    each, took = _time(asked, shape, kind, gpu, seen, question, stored) if gpu else ({}, None)
    return Needs(
        gpu=memory(shape, params, asked.batch),
        ram={
            "process": ram.PROCESS * asked.machine.gpus,
            "a file of weights": ram.SHARD * asked.machine.gpus,
            "children": asked.machine.cores * ram.CHILD,
        },
        disk=Disk(
            [
                Kept("weights, in the hub's cache", stored, (), cached=True),
                Kept("environment", ENVIRONMENT, ()),
            ]
        ),
        seconds=each,
        took=took,
        notes=_notes(asked.machine),
    )


def _at_once(shape: Shape, seen: Seen, batch: int) -> int:
    """Patches. Clips are seen one by one, tiles of several together."""
    if shape.family != "videochat2":
        return seen.patches
    return min(seen.views * batch, _TILES_AT_ONCE) * seen.patches // seen.views


def form(shape: Shape, params: GhostParams) -> Form:
    """A checkpoint that is quantised stays so."""
    if shape.stored == "none":
        return params.quantise
    return "nf4" if shape.stored == "bitsandbytes" else "awq"


def _time(
    asked: Asked[GhostParams],
    shape: Shape,
    kind: Form,
    gpu: Gpu,
    seen: Seen,
    question: Question,
    stored: float,
) -> tuple[dict[str, Span], Span]:
    """Each, and all of it: clips are read while others are answered."""
    said = Span(min(SAID.low, question.answer), min(SAID.high, question.answer))
    each = seconds.answering(shape, kind, gpu, seen, question, said, asked.batch, asked.machine.reached)
    share = _clips(asked) / asked.machine.gpus
    device = {name: span * share for name, span in each.items()}
    busy = together(device.values())
    whole = busy.slower(reading(asked))
    waits = sorted((whole.low - busy.low, whole.high - busy.high))
    loading = seconds.loading(stored)
    return {"start and loading": loading, **device, "waiting for clips": Span(*waits)}, loading + whole


def _notes(machine: Machine) -> list[str]:
    notes = []
    if machine.gpu and not machine.gpu.bf16:
        notes.append("this card has no bf16 and no FlashAttention-2: fp16 and SDPA")
    if machine.reached_on:
        notes.append(f"time as {machine.reached_on} took it here, ±15 %, not as is assumed elsewhere")
    return notes
