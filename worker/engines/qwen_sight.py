"""How a Qwen-VL looks at frames: what size they have, and what becomes of them before the first layer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worker.engines.resizing import Resizing
from worker.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 144
"""tokens that two frames become at most: 32 frames of 16:9 are 16 x 9 x 16 = 2,304"""
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NAMES = {"qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl"}
"""of the families, as people have them"""
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Sight:
    family: Literal["qwen2_5_vl", "qwen3_vl"]
    patch: int
    """pixels a side"""
    merge: int
    """patches a side that become one token"""
    depth: int
    """frames that become one"""
    tokens_per_second: float
    """steps in time that the positions make in a second; Qwen3-VL is told times in words instead"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resizing: Resizing
    """of pictures, which are no frames of a film"""

    @classmethod
    def of(cls, folder: Path) -> Sight:
        """Reads what lies beside the weights, and nothing heavy."""
        config = _read(folder / "config.json")
        family = config.get("model_type")
        if family not in ("qwen2_5_vl", "qwen3_vl"):
            raise UsageError(
                f"engine qwen takes Qwen2.5-VL and Qwen3-VL; config.json in {folder} says '{family}'"
            )
        vision: dict[str, Any] = config["vision_config"]
        is_clip = family == "qwen2_5_vl"
        mean, std = CLIP if is_clip else HALF
        said = (
            _read(folder / "video_preprocessor_config.json")
            or _read(folder / "processor_config.json").get("video_processor")
            or _read(folder / "preprocessor_config.json")
        )
        still = _read(folder / "processor_config.json").get("image_processor") or _read(
            folder / "preprocessor_config.json"
        )
        patch = int(vision.get("patch_size", 14 if is_clip else 16))
        merge = int(vision.get("spatial_merge_size", 2))
        return cls(
            family,
            patch,
            merge,
            int(vision.get("temporal_patch_size", 2)),
            float(vision.get("tokens_per_second", 4)),
            tuple(said.get("image_mean", mean)),
            tuple(said.get("image_std", std)),
            Resizing.of_processor(NAMES[family], still, patch * merge),
        )

    @property
    def side(self) -> int:
        """pixels of a token"""
        return self.patch * self.merge

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """Whole tokens, as many as there may be, in about the picture's own proportions; never enlarged
        beyond one token."""
        columns, rows = (max(1, round(pixels / self.side)) for pixels in (width, height))
        if columns * rows > CELLS:
            by = math.sqrt(width * height / CELLS) or 1
            columns, rows = (max(1, math.floor(pixels / by)) for pixels in (width, height))
            rows = min(rows, CELLS)
            columns = min(columns, CELLS // rows)
        return columns * self.side, rows * self.side

    def grid(self, frames: int, width: int, height: int) -> tuple[int, int, int]:
        """In patches: how long, how high, how wide."""
        if width % self.side or height % self.side or not frames:
            raise ValueError(f"{frames} frames of {width}x{height} are not of the size that was asked for")
        return -(-frames // self.depth), height // self.patch, width // self.patch

    def patches(self, frames: Tensor) -> Tensor:
        """[T, height, width, 3], bytes, on the device → [patches, values], those of a token side by side."""
        import torch

        if missing := -len(frames) % self.depth:
            frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
        values = (
            (frames.float() - _levels(self.mean, frames.device)) / _levels(self.std, frames.device)
        ).permute(0, 3, 1, 2)
        time, high, wide = (
            len(frames) // self.depth,
            frames.shape[1] // self.side,
            frames.shape[2] // self.side,
        )
        cut = values.reshape(
            time, self.depth, 3, high, self.merge, self.patch, wide, self.merge, self.patch
        ).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return cut.reshape(time * high * wide * self.merge**2, -1)


@cache
def _levels(shares: tuple[float, ...], device: Any) -> Tensor:
    """Of 255. To bring them there again for each clip would be to wait for the device each time."""
    import torch

    return torch.tensor(shares, device=device) * 255.0


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}
