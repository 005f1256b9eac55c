"""Whether this machine can train it at all, before anything is loaded; and what that will take."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.duration import spoken
from worker.engines.device import Device, look
from worker.errors import UnfitError
from worker.hardware import gpus
from worker.hardware.gpus import SHARE
from worker.planning import memory, seconds
from worker.planning.memory import ADAM, CONTEXT, Items, Lesson, learnt, small
from worker.planning.seconds import Seen
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly
from worker.training import strategy, world
from worker.training.settings import Training
from worker.training.strategy import Strategy

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""checkpoints on the disk: one that is written, one on its way to the queue"""
_TOLD = 0.05
"""of the whole: items that are smaller are not told one by one"""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is to be done."""

    seen: Seen
    """of one sample"""
    trained: float
    """samples, each as often as it is learnt from"""
    tried: float
    """samples, in all evaluations"""


def require(
    shape: Shape,
    lesson: Lesson,
    device: Device,
    folder: Path,
    training: Training,
    amount: Amount | None = None,
) -> None:
    """`lesson`: the smallest batch. `folder`: where checkpoints are written."""
    cards = world.size()
    way = strategy.chosen(training, cards)
    items = needs(shape, lesson, device, training, way, cards)
    need, room = _highest(shape, lesson, items, way), _room(device)
    saved = _learns(shape, lesson, training) * (4 + ADAM)
    free = shutil.disk_usage(folder).free
    most = sorted((one for one in items.items() if one[1] >= _TOLD * need), key=lambda one: -one[1])
    log.info(
        "%s, %s: %.2f GB of memory, one sample at a time (%s); a checkpoint takes %.2f GB of disk, free are "
        "%.1f; %s",
        shape.name,
        training.method,
        need / 1e9,
        ", ".join(f"{name} {size / 1e9:.2f}" for name, size in most),
        saved / 1e9,
        free / 1e9,
        _how_long(shape, lesson, device, training, amount, cards),
    )
    if room is not None and need > room:
        remedy = _instead(shape, lesson, device, training, cards, room)
        raise UnfitError(
            f"{shape.name} needs {need / 1e9:.1f} GB to be trained ({training.method}), one sample at a "
            f"time, and {device.name} has room for {room / 1e9:.1f}: {remedy}; `worker plan` says more"
        )
    ram = next(look("cpu")).free
    if strategy.is_sharded(way) and ram is not None and saved > ram:
        raise UnfitError(
            f"a checkpoint of {shape.name} under {way} is gathered in {saved / 1e9:.1f} GB of the machine's "
            f"memory, and {ram / 1e9:.1f} are free: take a machine with more"
        )
    if _AT_ONCE * saved > free:
        raise UnfitError(
            f"checkpoints of {shape.name} need {_AT_ONCE * saved / 1e9:.1f} GB of disk, and {free / 1e9:.1f} "
            "are free: set TMPDIR to a larger disk"
        )


def needs(
    shape: Shape,
    lesson: Lesson,
    device: Device,
    training: Training,
    way: Strategy = "alone",
    cards: int = 1,
) -> Items:
    """Bytes of one card. A CPU has no context of a driver, and computes in 32 bits, which a frozen base then
    has too."""
    items = dict(
        memory.training(
            shape,
            training.method,
            lesson,
            rank=training.lora.rank,
            sees=training.lora.targets == "all",
            cards=cards,
            sharding=strategy.sharding(way),
            offload=training.offload_optimizer and strategy.is_sharded(way),
        )
    )
    if device.kind == "cpu":
        items["context"] -= CONTEXT
        items.pop("weights, cast", None)
        if training.method != "full":
            whole = ("embeddings, head", "vision", *(["language"] if training.method == "lora" else []))
            items |= {f"weights: {one}": 2 * items[f"weights: {one}"] for one in whole}
    return items


def _highest(shape: Shape, lesson: Lesson, items: Items, way: Strategy) -> float:
    """As it is loaded, before it is shared out, it is whole."""
    whole = 4 * learnt(shape, lesson) + items["context"] if strategy.is_sharded(way) else 0.0
    return max(sum(items.values()), whole)


def _room(device: Device) -> float | None:
    return device.free if device.kind == "cpu" else device.total and SHARE * device.total


def _learns(shape: Shape, lesson: Lesson, training: Training) -> int:
    if training.method == "full":
        return learnt(shape, lesson)
    return small(shape, lesson, training.lora.rank, sees=training.lora.targets == "all")


def _instead(
    shape: Shape, lesson: Lesson, device: Device, training: Training, cards: int, room: float
) -> str:
    for told, changed, other in _others(lesson, training, cards):
        way = strategy.chosen(changed, cards) if cards > 1 else "alone"
        items = needs(shape, other, device, changed, way, cards)
        if (need := _highest(shape, other, items, way)) <= room:
            return f"with {told} under training: it would need {need / 1e9:.1f}"
    return "take a larger card or a smaller model"


def _others(lesson: Lesson, training: Training, cards: int) -> Iterator[tuple[str, Training, Lesson]]:
    """What could be asked for instead, what changes the least first."""
    again = Lesson(lesson.batch, lesson.tokens, lesson.patches, lesson.classes, checkpointing=True)
    also = "" if lesson.checkpointing else ", gradient_checkpointing: true"
    if also:
        yield also.removeprefix(", "), training, again
    if cards > 1 and training.method == "full":
        for way, offload in (("zero2", False), ("fsdp2", False), ("zero2", True)):
            shared = training.model_copy(update={"strategy": way, "offload_optimizer": offload})
            yield f"strategy: {way}{', offload_optimizer: true' if offload else ''}", shared, lesson
    methods = ("full", "lora", "qlora")
    for method in methods[methods.index(training.method) + 1 :]:
        changed = training.model_copy(update={"method": method})
        yield f"method: {method}", changed, lesson
        if also:
            yield f"method: {method}{also}", changed, again


def _how_long(
    shape: Shape, lesson: Lesson, device: Device, training: Training, amount: Amount | None, cards: int
) -> str:
    gpu = gpus.find(device.name) if device.kind == "cuda" else None
    if gpu is None or amount is None:
        return f"how long it takes on {device.name} is not known beforehand"
    each = seconds.learning(
        shape,
        training.method,
        gpu,
        amount.seen,
        lesson.tokens,
        training.batch_size,
        cards=cards,
        words=lesson.classes is None,
        checkpointing=lesson.checkpointing,
    )
    forward = seconds.prefill_flops(shape, lesson.tokens) + seconds.vision_flops(
        shape, amount.seen.grid, amount.seen.views
    )
    tried = exactly(forward / gpu.flops).over(seconds.ASSUMED.prefill) * amount.tried
    stored = sum(memory.weights(shape, "none").values())
    whole = (each * amount.trained + tried) * (1 / cards) + seconds.loading(stored)
    return f"it takes {_spoken(whole)}, evaluations {_spoken(tried)} of that"


def _spoken(span: Span) -> str:
    return f"{spoken(span.low)} to {spoken(span.high)}"
