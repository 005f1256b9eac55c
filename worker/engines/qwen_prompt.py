"""What a Qwen-VL reads: a chat that shows a clip or pictures, and where tokens stand in time and space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.engines.qwen_sight import Sight

VIDEO, PICTURE = "<|video_pad|>", "<|image_pad|>"
START, END = "<|vision_start|>", "<|vision_end|>"
_SLACK = 1e-3
"""of a step in time: a second that arithmetic made a hair shorter is one all the same"""


@dataclass(frozen=True, slots=True)
class Reading:
    ids: list[int]
    positions: npt.NDArray[np.int64]
    """[3, tokens]: in time, down, across"""
    clip: npt.NDArray[np.int64]
    """which tokens are of the clip, or of the pictures"""


Block = tuple[Sequence[int], int, int]
"""steps in time, cells down, cells across: of the tokens that stand for what is seen at one place"""


def read(
    tokenizer: Any, sight: Sight, prompt: str, times: Sequence[float], grid: tuple[int, int, int]
) -> Reading:
    """`grid`: of the clip, in patches."""
    long, high, wide = grid[0], grid[1] // sight.merge, grid[2] // sight.merge
    chat = _chat(tokenizer, [{"type": "video"}], prompt)
    shown = pairs(times, sight.depth)
    if len(shown) != long:
        raise ValueError(f"{len(times)} times are not those of its frames")
    chat = _with_the_clip(chat, sight, shown)
    if sight.family == "qwen3_vl":  # each pair is a clip of its own
        return _told(tokenizer, chat, VIDEO, [([0], high, wide)] * long)
    return _told(tokenizer, chat, VIDEO, [(_steps(sight, times), high, wide)])


def read_pictures(
    tokenizer: Any, sight: Sight, prompt: str, grids: Sequence[tuple[int, int, int]]
) -> Reading:
    """`grids`: of each picture, in patches."""
    chat = _chat(tokenizer, [{"type": "image"}] * len(grids), prompt)
    cells: list[Block] = [([0], high // sight.merge, wide // sight.merge) for _, high, wide in grids]
    return _told(tokenizer, chat, PICTURE, cells)


def _chat(tokenizer: Any, seen: Sequence[Mapping[str, str]], prompt: str) -> str:
    chat: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": [*seen, {"type": "text", "text": prompt}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    return chat


def _told(tokenizer: Any, chat: str, stands: str, blocks: Sequence[Block]) -> Reading:
    """`stands`: for one block, in the chat."""
    ids = np.array(tokenizer(chat, add_special_tokens=False).input_ids)
    pad = tokenizer.convert_tokens_to_ids(stands)
    if (found := np.count_nonzero(ids == pad)) != len(blocks):
        what = "a clip" if stands == VIDEO else "pictures"
        raise ValueError(f"the prompt has {found} tokens of {what} where {len(blocks)} belong")
    # told in words they would cost a tokenizer more than all else
    times = np.ones(len(ids), int)
    times[ids == pad] = [len(steps) * high * wide for steps, high, wide in blocks]
    whole = np.repeat(ids, times)
    return Reading(whole.tolist(), positions(whole, pad, blocks), np.flatnonzero(whole == pad))


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
    begun = [first for first, _ in pairs(times, sight.depth)]
    return [int((one - begun[0]) * sight.tokens_per_second + _SLACK) for one in begun]


def positions(
    ids: Sequence[int] | npt.NDArray[np.int64], pad: int, blocks: Sequence[Block]
) -> npt.NDArray[np.int64]:
    """Words count on by one; what is seen is a block of steps x cells, and what follows stands behind it all.

    So it was trained; transformers since 5 looks at the sides alone: words stand within a long clip."""
    at, found, left = 0, [], iter(blocks)
    for is_seen, run in groupby(token == pad for token in ids):
        if is_seen:
            steps, high, wide = next(left)
            block = np.meshgrid(steps, np.arange(high), np.arange(wide), indexing="ij")
            found.append(np.stack(block).reshape(3, -1) + at)
            at += max(high, wide, steps[-1] + 1)
        else:
            count = sum(1 for _ in run)
            found.append(np.tile(np.arange(at, at + count), (3, 1)))
            at += count
    return np.concatenate(found, axis=1).astype(np.int64)
