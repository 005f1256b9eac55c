"""Where a patch lies in a film: sines and cosines over the patches of all frames that a model was trained
with, one frame after the other, drawn out in time to as many frames as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sinusoids(positions: int, width: int) -> Tensor:
    """positions x width."""
    import torch

    pairs = torch.arange(width, dtype=torch.float64) // 2
    angles = torch.arange(positions, dtype=torch.float64)[:, None] / 10_000 ** (2 * pairs / width)
    angles[:, 0::2].sin_()
    angles[:, 1::2].cos_()
    return angles.float()


def drawn_out(frames: int, trained: int, patches: int, width: int) -> Tensor:
    """1 x (frames * patches) x width."""
    from torch.nn.functional import interpolate

    over_time = sinusoids(trained * patches, width).view(trained, -1).T[None]
    return interpolate(over_time, size=frames, mode="linear")[0].T.reshape(1, frames * patches, width)
