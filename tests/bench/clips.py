"""The films that reading is measured on: drawn here, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_PLAIN = {"preset": "veryfast", "threads": "2"}
_BITS = 16
_FASTSTART = {"movflags": "faststart"}


@dataclass(frozen=True, slots=True)
class Clip:
    what: str
    file: str
    size: tuple[int, int]
    rate: int
    seconds: int
    codec: str
    options: Mapping[str, str] = field(default_factory=dict)


CLIPS = (
    Clip(
        "720p, 15 s, H.264, GOP 250, B-frames",
        "720p.mp4",
        (1280, 720),
        30,
        15,
        "libx264",
        {**_PLAIN, "preset": "medium", "g": "250", "crf": "23"},
    ),
    Clip(
        "1080p, 30 s, H.264, GOP 60",
        "1080p.mp4",
        (1920, 1080),
        30,
        30,
        "libx264",
        {**_PLAIN, "g": "60", "crf": "23"},
    ),
    Clip(
        "720p, 15 s, HEVC",
        "hevc.mp4",
        (1280, 720),
        30,
        15,
        "libx265",
        {"preset": "fast", "x265-params": "log-level=none:keyint=250:pools=2"},
    ),
    Clip("360p, 10 min, H.264", "360p.mp4", (640, 360), 30, 600, "libx264", {**_PLAIN, "crf": "23"}),
    Clip(
        "1584x660, 10 s, MPEG-4 in AVI",
        "dashcam.avi",
        (1584, 660),
        30,
        10,
        "mpeg4",
        {"b": "8000000", "g": "12"},
    ),
)


def draw(clip: Clip, folder: Path) -> Path:
    """A street of soft shapes goes by, things cross it, and the sensor is a little noisy."""
    path = folder / clip.file
    width, height = clip.size
    rng = np.random.default_rng(5)
    street = _soft(rng, height, 3 * width)
    grain = rng.integers(-4, 5, (8, height, width, 3), dtype=np.int8)
    muxer = _FASTSTART if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxer) as out:
        stream = out.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(clip.seconds * clip.rate):
            at = _swing(n / clip.rate / 20) * 2 * width
            picture = street[:, int(at) : int(at) + width] + grain[n % 8]
            for thing in range(3):
                x = int(_swing(n / clip.rate / (5 + 2 * thing) + thing / 3) * (width * 3 // 4))
                top = height // 4 + thing * height // 8
                picture[top : top + height // 5, x : x + width // 10] = 60 + 50 * thing
            _number(picture, n)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture, np.uint8), "rgb24")
            frame.pts, frame.time_base = n, Fraction(1, clip.rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _number(picture: np.ndarray, n: int) -> None:
    """Sixteen black or white fields at the foot: which frame it is, whoever scaled it."""
    height, width = picture.shape[0] // 10, picture.shape[1] // _BITS
    for bit in range(_BITS):
        picture[-height:, bit * width : (bit + 1) * width] = 235 if n >> bit & 1 else 16


def number_of(picture: np.ndarray) -> int:
    row, width = picture.shape[0] * 19 // 20, picture.shape[1] / _BITS
    return sum((picture[row, int((bit + 0.5) * width)].mean() > 128) << bit for bit in range(_BITS))


def _soft(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of several sizes: walls, windows, leaves."""
    total = np.zeros((height, width, 3), np.float32)
    for grid in (160, 40, 10):
        coarse = rng.random((-(-height // grid), -(-width // grid), 3), np.float32)
        total += np.repeat(np.repeat(coarse, grid, 0), grid, 1)[:height, :width]
    return (30 + total * 60).astype(np.uint8)


def _swing(turns: float) -> float:
    """Between 0 and 1, back and forth."""
    return 2 * abs(turns % 1 - 0.5)
