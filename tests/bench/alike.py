"""Small models on a CPU: what they say in batches, against what transformers' own loop says of each clip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests import plain_loop, tiny_models
from tests.bench.table import Figure
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request
from worker.engines.loading import Loaded
from worker.engines.qwen import Qwen
from worker.items import Failure

BATCHES = 1, 4, 8
CLIPS = 16
TOKENS = 32
SEED = 5


def figures(folder: Path) -> Iterator[Figure]:
    for family in tiny_models.FAMILIES:
        name = f"a small {family} on a CPU"
        outline = tiny_models.outline(folder / family, tiny_models.config(family))
        ours, theirs = tiny_models.vision_language(family), tiny_models.vision_language(family)
        qwen = Qwen(Choice("qwen", "tiny", "0", outline))
        qwen.use(Loaded(ours, outline, trusted=False, about={}))
        asked = clips(qwen)
        plain_loop.said(qwen, asked[0], theirs)  # warms up
        begun = time.perf_counter()
        alone = [plain_loop.said(qwen, one, theirs) for one in asked]
        took = time.perf_counter() - begun
        expected = [Reply(text(qwen, one), len(one), len(one) == TOKENS) for one in alone]
        shares, times = [], []
        for batch in BATCHES:
            qwen._batches.size = qwen._batches.most = batch
            begun = time.perf_counter()
            replies = [one for at in range(0, CLIPS, batch) for one in qwen.answer(asked[at : at + batch])]
            times.append(took / (time.perf_counter() - begun))
            shares.append(np.mean(list(map(same, replies, expected))))
        yield Figure(
            f"{name}: as generate() answers ({CLIPS} clips, {len(set(expected))} different answers)",
            ", ".join(f"{share:.0%} at {batch}" for share, batch in zip(shares, BATCHES, strict=True)),
            "100 %",
        )
        yield Figure(
            f"{name}: as fast as the loop",
            ", ".join(f"{one:.1f} times at {batch}" for one, batch in zip(times, BATCHES, strict=True)),
        )


def clips(qwen: Qwen) -> list[Request]:
    draw = np.random.default_rng(SEED)
    shapes = [
        (int(draw.integers(1, 9)), "who? " * int(draw.integers(1, 9)), tuple(draw.integers(90, 200, 2)))
        for _ in range(CLIPS)
    ]
    return plain_loop.requests(qwen, shapes, TOKENS, SEED)


def text(qwen: Qwen, tokens: list[int]) -> str:
    found: str = qwen._tokenizer.decode(tokens, skip_special_tokens=True)
    return found


def same(one: Reply | Failure, other: Reply) -> bool:
    return one == other
