"""What a Qwen-VL reads of still pictures: a chat with them in it, and where each of its tokens stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

IMAGE = "<|image_pad|>"
Cells = tuple[int, int]
"""tokens down and across"""


@dataclass(frozen=True, slots=True)
class Stills:
    ids: list[int]
    pictures: npt.NDArray[np.bool_]
    """which tokens are of pictures"""


def read(tokenizer: Any, content: Sequence[Mapping[str, str]], shown: Sequence[Cells]) -> Stills:
    """`content`: of the question, as templates of chats want it. `shown`: of each picture in it. What is
    answered comes behind."""
    parts = [{"type": "image"} if one["type"] == "image" else dict(one) for one in content]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    ids = np.array(tokenizer(chat, add_special_tokens=False).input_ids)
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    if (found := np.count_nonzero(ids == image)) != len(shown):
        raise ValueError(f"the chat has {found} marks of pictures, and there are {len(shown)}")
    times = np.ones(len(ids), np.int64)
    times[ids == image] = [high * wide for high, wide in shown]
    whole = np.repeat(ids, times)  # told in words they would cost a tokenizer more than all else
    return Stills(whole.tolist(), whole == image)


def positions(pictures: npt.NDArray[np.bool_], shown: Sequence[Cells]) -> npt.NDArray[np.int64]:
    """[3, tokens]: in time, down, across. Words count on by one; a picture stands at one time, and what
    follows it behind its longer side."""
    at, found, rest = 0, [], iter(shown)
    for is_picture, run in groupby(pictures.tolist()):
        count = sum(1 for _ in run)
        if is_picture:
            cells = next(rest)
            found.append(np.indices((1, *cells)).reshape(3, -1) + at)
            at += max(cells)
        else:
            found.append(np.tile(np.arange(at, at + count), (3, 1)))
            at += count
    return np.concatenate(found, axis=1).astype(np.int64)
