"""What lies in a GPU's memory, item by item, in bytes of one card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from worker.engines.decoding import SLOTS
from worker.planning.shape import Shape

Items: TypeAlias = Mapping[str, float]
Form: TypeAlias = Literal["none", "nf4", "awq"]
Method: TypeAlias = Literal["qlora", "lora", "full"]
Sharding: TypeAlias = Literal["none", "zero2", "zero3"]

HALF = 2
CONTEXT = 1.5e9
"""of the driver, of the libraries' kernels and work spaces, and of holes"""
BYTES = {"none": 2.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "awq": 0.5 + 2.5 / 128}
"""of a number of the language model's matrices. NF4: a scale of 8 bits for 64, one of 32 for 256 scales.
AWQ: a scale of 16 bits and a zero of 4 for 128"""
LOGITS = 10
"""bytes of one in training: 2 as computed, 4 to be softened, 4 of its gradient"""
ADAM = 8
"""bytes of its two moments"""
BUCKETS = 4 * 500_000_000
"""of ZeRO: 5e8 numbers in 16 bits that are gathered, and as many that are reduced"""


def weights(shape: Shape, form: Form) -> dict[str, float]:
    parameters = shape.parameters
    return {
        "weights: language": parameters.linear * BYTES[form] + parameters.rest * HALF,
        "weights: embeddings, head": (parameters.embeddings + parameters.head) * HALF,
        "weights: vision": parameters.vision * HALF,
    }


def matrix(shape: Shape, form: Form) -> float:
    """The largest one of a layer, while it is unfolded from four bits."""
    return shape.inner * shape.hidden * HALF if form != "none" else 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked at once, one row of a batch."""

    tokens: int
    """of the prompt, the pictures among them"""
    answer: int
    """tokens for which there is room"""
    patches: int
    """that are seen at once"""


def answering(shape: Shape, form: Form, asked: Question, batch: int) -> Items:
    """Prompts are read one by one, and decoded together in a cache that is as long for all."""
    slots = -(-(asked.tokens + asked.answer) // SLOTS) * SLOTS
    read = asked.tokens * HALF * (3 * shape.inner + 4 * shape.hidden + shape.queries + 2 * shape.keys)
    eye = shape.eye
    pixels = 4 * 3 * eye.frames * eye.patch**2
    seen = asked.patches * (HALF * (3 * eye.inner + 6 * eye.width) + pixels)
    return {
        **weights(shape, form),
        "cache of keys and values": shape.kv_bytes * (batch * slots + asked.tokens),
        "activations": max(read, seen) + matrix(shape, form),
        "logits": batch * shape.vocabulary * (HALF + 4),
        "context": CONTEXT,
    }


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one step of training sees on one card."""

    batch: int
    tokens: int
    patches: int
    """of one sample"""
    classes: int | None = None
    """None: the next word is learnt, of each token"""
    checkpointing: bool = True
    """what a layer computed is computed again for its gradients, instead of being kept"""


def layer(shape: Shape, *, adapted: bool = False) -> int:
    """Bytes of a token that one layer keeps for its gradients: two norms and what they were given, queries
    before and after turning, keys alike, values, what was attended to, three products of the inner width and
    what they were made of. Adapters besides: of what goes into each matrix, which numbers were dropped."""
    width = 8 * shape.hidden + 3 * shape.queries + 4 * shape.keys + 4 * shape.inner
    return HALF * width + (5 * shape.hidden + shape.queries + shape.inner) * adapted


def eye_layer(shape: Shape) -> int:
    """The same of a patch, as torch counts it: norms of gated layers work in 32 bits."""
    eye = shape.eye
    return HALF * (15 * eye.width + 4 * eye.inner if eye.gated else 11 * eye.width + 2 * eye.inner)


def eye_adapters(shape: Shape, rank: int) -> int:
    """How many numbers adapters beside each matrix of what sees have, up to its way into words."""
    eye, out = shape.eye, int(shape.vision.out_hidden_size)
    wide = eye.merge**2 * eye.width
    layer = (4 + 2) * eye.width + (2 + eye.gated) * (eye.width + eye.inner)
    mergers = 1 + len(getattr(shape.vision, "deepstack_visual_indexes", ()))
    return rank * (eye.depth * layer + mergers * (2 * wide + wide + out))


def adapters(shape: Shape, rank: int) -> int:
    """How many numbers adapters of this rank beside each matrix of a layer have."""
    sides = (
        (shape.hidden, shape.queries),
        (shape.hidden, shape.keys),
        (shape.hidden, shape.keys),
        (shape.queries, shape.hidden),
        *((shape.hidden, shape.inner),) * 3,
    )
    return rank * shape.layers * sum(into + out for into, out in sides)


def training(
    shape: Shape,
    method: Method,
    lesson: Lesson,
    *,
    rank: int = 16,
    sees: bool = False,
    cards: int = 1,
    sharding: Sharding = "none",
    offload: bool = False,
) -> Items:
    """Of one card. `sees`: adapters stand beside what sees too. `offload`: the optimiser lies in RAM."""
    if method == "full":
        states = _full(shape, lesson, cards, sharding, offload)
    else:
        form: Form = "nf4" if method == "qlora" else "none"
        count = small(shape, lesson, rank, sees=sees)
        states = {
            **weights(shape, form),
            "a matrix unfolded": matrix(shape, form),
            "adapters": 4 * count,
            "gradients": 4 * count,
            "optimiser": ADAM * count,
        }
        if lesson.classes:
            states["weights: embeddings, head"] = shape.parameters.embeddings * HALF
    sees = sees or method == "full"
    adapted = method != "full"
    return {**states, **_activations(shape, lesson, sees=sees, adapted=adapted), "context": CONTEXT}


def small(shape: Shape, lesson: Lesson, rank: int, *, sees: bool = False) -> int:
    """Numbers that learn beside a model that stays as it was: adapters, and a head for classes."""
    return (
        adapters(shape, rank)
        + (eye_adapters(shape, rank) if sees else 0)
        + (lesson.classes or 0) * shape.hidden
    )


def learnt(shape: Shape, lesson: Lesson) -> int:
    """Numbers that full training changes: a head for classes takes the place of that for words."""
    if lesson.classes is None:
        return shape.parameters.total
    return shape.parameters.total - shape.parameters.head + lesson.classes * shape.hidden


def _full(shape: Shape, lesson: Lesson, cards: int, sharding: Sharding, offload: bool) -> dict[str, float]:
    """Where nothing is shared out all has 32 bits; else weights and gradients have 16, and the optimiser
    keeps the numbers themselves in 32 beside Adam's moments."""
    count = learnt(shape, lesson)
    if sharding == "none":
        states = {
            "weights": 4.0 * count,
            "gradients": 4.0 * count,
            "optimiser": 0.0 if offload else float(ADAM * count),
        }
        if not lesson.checkpointing:
            states["weights, cast"] = HALF * count  # for the gradients of what they were multiplied by
        if cards > 1:
            states["buckets"] = states["gradients"]  # torch keeps one for each, beside it
        return states
    return {
        "weights": count * HALF / (cards if sharding == "zero3" else 1),
        "gradients": count * HALF / cards,
        "optimiser": 0.0 if offload else count * (4 + ADAM) / cards,
        **({"buckets": BUCKETS} if cards > 1 else {}),
    }


def _activations(shape: Shape, lesson: Lesson, *, sees: bool, adapted: bool) -> dict[str, float]:
    tokens, patches = lesson.batch * lesson.tokens, lesson.batch * lesson.patches
    rows = lesson.batch if lesson.classes else tokens
    each = layer(shape, adapted=adapted)
    kept = shape.layers * (HALF * shape.hidden if lesson.checkpointing else each)
    again = each if lesson.checkpointing else 0
    found: dict[str, float] = {
        "activations kept": tokens * kept,
        "one layer, again": tokens * again,
        "logits": rows * (lesson.classes or shape.vocabulary) * LOGITS,
    }
    if sees:
        eye = shape.eye
        seen = HALF * eye.width if lesson.checkpointing else eye_layer(shape)
        found["activations of vision"] = patches * eye.depth * seen
    return found
