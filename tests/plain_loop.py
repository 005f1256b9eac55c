"""What transformers' own loop says of a clip, asked alone: the measure of what an engine says in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests import tiny_models
from worker.engines.engine import Request
from worker.engines.qwen import Qwen

APART = 1 / 16
"""seconds between two frames: in a longer clip transformers' words stand elsewhere (qwen_prompt.positions)"""


def requests(
    qwen: Qwen, shapes: Sequence[tuple[int, str, tuple[int, int]]], most: int, seed: int = 0
) -> list[Request]:
    """Of noise: so many frames, a question, and how large the film is."""
    draw = np.random.default_rng(seed)
    made = []
    for frames, prompt, (width, height) in shapes:
        columns, rows = qwen.frame_size(width, height)
        seen = [draw.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for _ in range(frames)]
        made.append(Request(seen, [0.5 + APART * n for n in range(frames)], prompt, max_tokens=most))
    return made


def said(qwen: Qwen, request: Request, model: Any) -> list[int]:
    """From the pixels on."""
    import torch

    asked: Any = qwen._read(request)
    ids = torch.tensor([asked.reading.ids])
    spaced = {"second_per_grid_ts": torch.tensor([2 * APART])} if qwen._sight.family == "qwen2_5_vl" else {}
    grids = torch.tensor(asked.grids)
    if request.times:
        patches = qwen._sight.patches(torch.from_numpy(np.stack(request.frames)))
        seen = {"pixel_values_videos": patches, "video_grid_thw": grids, **spaced}
    else:
        each = [qwen._sight.patches(torch.from_numpy(one[None])) for one in request.frames]
        seen = {"pixel_values": torch.cat(each), "image_grid_thw": grids}
    pad, kind = (tiny_models.VIDEO, 2) if request.times else ("<|image_pad|>", 1)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == tiny_models.id_of(pad)).int() * kind,
            do_sample=False,
            max_new_tokens=request.max_tokens,
            **seen,
        )
    tokens: list[int] = out[0, ids.shape[1] :].tolist()
    return tokens[:-1] if tokens[-1] in model.generation_config.eos_token_id else tokens
