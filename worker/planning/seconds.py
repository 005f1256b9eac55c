"""How long it takes: operations over what a card can do, bytes over what it can read, each at a share of the
data sheet's figure that is said here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.engines import flops
from worker.engines.qwen_tower import Grid
from worker.hardware.gpus import Gpu
from worker.planning.memory import BYTES, HALF, Form, Method, Question
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly

LOADING = Span(0.2, 3)
"""GB of weights a second, from a network disk or from NVMe"""
START_S = Span(15, 90)
"""python, torch, the first kernels, graphs"""
READING_S = Span(0.025, 0.06)
"""CPU seconds for one of a clip, 32 frames taken: `make bench OF=video` says 0.028 at 720p, 0.051 at 1080p"""
MANY_CARDS = Span(0.75, 0.95)
"""what each of several cards keeps of its pace while they train together"""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the data sheet's figures."""

    vision: Span
    prefill: Span
    decode: Span
    """of the bandwidth"""
    train: Span
    train_nf4: Span
    """weights are unfolded, and batches are small"""


ASSUMED = Efficiency(
    vision=Span(0.20, 0.45),
    prefill=Span(0.25, 0.55),
    decode=Span(0.35, 0.80),
    train=Span(0.25, 0.50),
    train_nf4=Span(0.12, 0.35),
)


def language_bytes(shape: Shape, form: Form) -> float:
    """Read in each step of decoding: all but the embeddings, of which a row is."""
    parameters = shape.parameters
    head = parameters.head or parameters.embeddings
    return parameters.linear * BYTES[form] + (parameters.rest + head) * HALF


def prefill_flops(shape: Shape, tokens: int) -> float:
    return flops.language(shape.text, tokens)


def vision_flops(shape: Shape, grid: Grid, views: int = 1) -> float:
    return views * flops.vision(shape.vision, grid)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is looked at for one question."""

    grid: Grid
    views: int = 1

    @property
    def patches(self) -> int:
        long, high, wide = self.grid
        return long * high * wide * self.views


def answering(
    shape: Shape,
    form: Form,
    gpu: Gpu,
    seen: Seen,
    asked: Question,
    said: Span,
    batch: int,
    reached: Efficiency = ASSUMED,
) -> Mapping[str, Span]:
    """Seconds of the device for one question; `said`: tokens of its answer."""
    cached = batch * shape.kv_bytes * asked.tokens
    reads = exactly((language_bytes(shape, form) + cached) / (gpu.bandwidth * 1e9)).over(reached.decode)
    computes = 2 * batch * (shape.parameters.linear + shape.vocabulary * shape.hidden)
    step = reads.slower(exactly(computes / gpu.flops).over(reached.prefill))
    return {
        "vision": exactly(vision_flops(shape, seen.grid, seen.views) / gpu.flops).over(reached.vision),
        "prefill": exactly(prefill_flops(shape, asked.tokens) / gpu.flops).over(reached.prefill),
        "decoding": step * said * (1 / batch),
    }


def learning(
    shape: Shape,
    method: Method,
    gpu: Gpu,
    seen: Seen,
    tokens: int,
    batch: int,
    *,
    cards: int = 1,
    words: bool = True,
    checkpointing: bool = True,
    reached: Efficiency = ASSUMED,
) -> Span:
    """Seconds of one card for one sample: forward, once more where layers are computed again, and backward,
    which is twice as much where weights learn. `words`: each token has its logits."""
    backward = 2 if method == "full" else 1
    passes = 1 + checkpointing + backward
    once = prefill_flops(shape, tokens) - 2 * shape.hidden * shape.vocabulary
    head = (1 + backward) * 2 * shape.hidden * shape.vocabulary * tokens * words
    sees = vision_flops(shape, seen.grid, seen.views) * (passes if method == "full" else 1)
    share = reached.train_nf4 if method == "qlora" else reached.train
    took = exactly((once * passes + head + sees) / gpu.flops).over(share)
    if method == "qlora":
        unfolded = passes * shape.parameters.linear * (BYTES["nf4"] + 2 * HALF) / batch
        took += exactly(unfolded / (gpu.bandwidth * 1e9)).over(reached.decode)
    return took.over(MANY_CARDS) if cards > 1 else took


def loading(stored: float) -> Span:
    """Of so many bytes of weights, and all that comes before the first answer."""
    return START_S + exactly(stored / 1e9).over(LOADING)
