"""What a Qwen-VL reads: a chat with a clip in it, and where each of its tokens stands in time and space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.engines.qwen_sight import Sight

VIDEO = "<|video_pad|>"
START, END = "<|vision_start|>", "<|vision_end|>"
_SLACK = 1e-3
"""of a step in time: a second that arithmetic made a hair shorter is one all the same"""


@dataclass(frozen=True, slots=True)
class Reading:
    ids: list[int]
    positions: npt.NDArray[np.int64]
    """[3, tokens]: in time, down, across"""
    clip: npt.NDArray[np.int64]
    """which tokens are of the clip"""


def read(
    tokenizer: Any, sight: Sight, prompt: str, times: Sequence[float], grid: tuple[int, int, int]
) -> Reading:
    """`grid`: of the clip, in patches."""
    long, high, wide = grid[0], grid[1] // sight.merge, grid[2] // sight.merge
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    shown = pairs(times, sight.depth)
    if len(shown) != long:
        raise ValueError(f"{len(times)} times are not those of its frames")
    chat = _with_the_clip(chat, sight, shown)
    ids = np.array(tokenizer(chat, add_special_tokens=False).input_ids)
    video = tokenizer.convert_tokens_to_ids(VIDEO)
    blocks = len(shown) if sight.family == "qwen3_vl" else 1
    if (found := np.count_nonzero(ids == video)) != blocks:
        raise ValueError(f"the prompt has {found} tokens of a clip where {blocks} belong")
    each = long * high * wide // blocks
    # told in words they would cost a tokenizer more than all else
    whole = np.repeat(ids, np.where(ids == video, each, 1))
    places = positions(whole, video, (high, wide), _steps(sight, times))
    return Reading(whole.tolist(), places, np.flatnonzero(whole == video))


def pairs(times: Sequence[float], depth: int) -> list[tuple[float, float]]:
    """When the first and the last one of the frames were shown that become one; the last frame fills up."""
    full = [*times, *[times[-1]] * (-len(times) % depth)]
    return list(zip(full[::depth], full[depth - 1 :: depth], strict=True))


def _with_the_clip(chat: str, sight: Sight, shown: Sequence[tuple[float, float]]) -> str:
    """One token for each block of cells."""
    if sight.family == "qwen2_5_vl":
        return chat
    # each pair in marks of its own behind its time, and none around them all: so it was trained
    told = "".join(f"<{(a + b) / 2:.1f} seconds>{START}{VIDEO}{END}" for a, b in shown)
    whole = f"{START}{VIDEO}{END}"
    return chat.replace(whole if whole in chat else VIDEO, told, 1)


def _steps(sight: Sight, times: Sequence[float]) -> list[int]:
    """Where each pair stands in time, from where the clip begins."""
    if sight.family == "qwen3_vl":
        return [0]  # each pair is a clip of its own
    begun = [first for first, _ in pairs(times, sight.depth)]
    return [int((one - begun[0]) * sight.tokens_per_second + _SLACK) for one in begun]


def positions(
    ids: Sequence[int] | npt.NDArray[np.int64], video: int, cells: tuple[int, int], steps: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Words count on by one; a clip is a block of `steps` x `cells`, and what follows stands behind it all.

    So it was trained; transformers since 5 looks at the sides alone: words stand within a long clip."""
    at, found = 0, []
    block = np.stack(np.meshgrid(steps, np.arange(cells[0]), np.arange(cells[1]), indexing="ij"))
    for is_video, run in groupby(token == video for token in ids):
        if is_video:
            found.append(block.reshape(3, -1) + at)
            at += max(*cells, steps[-1] + 1)
        else:
            count = sum(1 for _ in run)
            found.append(np.tile(np.arange(at, at + count), (3, 1)))
            at += count
    return np.concatenate(found, axis=1).astype(np.int64)
