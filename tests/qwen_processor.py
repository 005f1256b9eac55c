"""What transformers' own processors make of a clip: pixels, tokens, positions. They need torchvision.

`python -m tests.qwen_processor` writes tests/data/qwen.json, for those who have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests import tiny_models

GOLDEN = Path(__file__).parent / "data" / "qwen.json"
PROMPT = "Who comes out from behind the bus? 鬼探头"
FPS = 2.0
"""of the clips, and of their frames: each one is shown"""
EVERY = 997
"""one of so many values is kept"""


def clip(frames: int, side: int) -> list[npt.NDArray[np.uint8]]:
    """Five tokens wide, three high; the same on every machine."""
    height, width = 3 * side, 5 * side
    values = np.arange(frames * height * width * 3, dtype=np.int64) * 2654435761 >> 7
    return list((values % 256).astype(np.uint8).reshape(frames, height, width, 3))


def processor(family: str) -> Any:
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessorPil,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = tiny_models.tokenizer()
    video: Any = Qwen2VLVideoProcessor if family == "qwen2_5_vl" else Qwen3VLVideoProcessor
    whole: Any = Qwen2_5_VLProcessor if family == "qwen2_5_vl" else Qwen3VLProcessor
    return whole(
        image_processor=Qwen2VLImageProcessorPil(),
        tokenizer=tokenizer,
        video_processor=video(do_sample_frames=False, do_resize=False, cap_pixels_per_frame=False),
        chat_template=tiny_models.TEMPLATE,
    )


def processed(family: str, frames: list[npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """With the ids of positions that the model works out from it."""
    import torch

    chat = tiny_models.tokenizer().apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": PROMPT}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    if (
        family == "qwen3_vl"
    ):  # its first processor put the pairs of frames in the place of the outer marks too
        chat = chat.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    about = {
        "fps": FPS,
        "total_num_frames": len(frames),
        "frames_indices": list(range(len(frames))),
        "duration": len(frames) / FPS,
    }
    found = processor(family)(
        text=[chat], videos=[np.stack(frames)], video_metadata=[about], return_tensors="pt"
    )
    model = tiny_models.vision_language(family)
    positions, _ = model.model.get_rope_index(
        found["input_ids"],
        mm_token_type_ids=found["mm_token_type_ids"],
        video_grid_thw=found["video_grid_thw"],
        attention_mask=torch.ones_like(found["input_ids"]),
        **({"second_per_grid_ts": found["second_per_grid_ts"]} if "second_per_grid_ts" in found else {}),
    )
    return {
        "ids": found["input_ids"][0].tolist(),
        "grid": found["video_grid_thw"][0].tolist(),
        "positions": positions[:, 0].tolist(),
        "pixels": found["pixel_values_videos"],
        "inputs": found,
    }


def main() -> None:
    kept = {}
    for family, side in (("qwen2_5_vl", 28), ("qwen3_vl", 32)):
        found = processed(family, clip(5, side))
        pixels = found.pop("pixels")
        found.pop("inputs")
        kept[family] = {**found, "shape": list(pixels.shape), "pixels": pixels.flatten()[::EVERY].tolist()}
    GOLDEN.write_text(json.dumps(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
