"""A video: walked from the first frame to the last, once, and what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av import VideoFrame
from av.container import InputContainer
from PIL import Image

from worker.errors import ItemError
from worker.media.contact_sheet import Sampler, Thumb, thumb_width
from worker.media.container import opened
from worker.media.film import Film
from worker.media.luma import Luma, is_dark, is_same, luma
from worker.media.pace import Pace
from worker.media.rgb import ToRgb
from worker.media.stretches import Stretches


@dataclass(frozen=True, slots=True)
class VideoLimits:
    max_pixels: int
    black_luma: int
    """level, of 255, at and below which a pixel is black"""
    min_black_s: float
    min_frozen_s: float
    damaged_frames: int
    """so many may be damaged before the video counts as unreadable"""


@dataclass(frozen=True, slots=True)
class VideoFindings:
    container: str
    codec: str
    width: int
    height: int
    """as shown, after the rotation"""
    rotation: int
    """degrees clockwise that the file asks for"""
    frame_rate: float
    variable_frame_rate: bool
    frames: int
    duration_s: float
    has_audio: bool
    pixel_format: str
    black: tuple[tuple[float, float], ...]
    frozen: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...]


def check_video(path: Path, limits: VideoLimits, sheet_frames: int = 0) -> tuple[VideoFindings, list[Thumb]]:
    """What was found, and so many evenly spaced frames (for a film of unknown length, up to twice)."""
    with opened(path) as container:
        walk = _Walk(container, limits, sheet_frames)
        walk.go()
        return walk.findings(), walk.sampler.thumbs if walk.sampler else []


class _Walk:
    """One pass over one file; only small numbers and thumbs are kept."""

    def __init__(self, container: InputContainer, limits: VideoLimits, sheet_frames: int) -> None:
        self.film = Film(container, limits.max_pixels)
        self.limits = limits
        self.sampler = Sampler(sheet_frames, self.film.stated_s) if sheet_frames else None
        self.to_rgb = ToRgb(_thumb_size)
        self.pace = Pace()
        self.black = Stretches(limits.min_black_s)
        self.frozen = Stretches(limits.min_frozen_s)
        self.sizes: list[tuple[int, int]] = []
        self.rotation = 0
        self.still: Luma | None = None
        """the first frame of those that all look alike: compared with it, a slow drift is no freeze"""

    def go(self) -> None:
        for packet in self.film.packets():
            for time, frame in self.film.decode(packet):
                self.see_frame(time, frame)

    def see_frame(self, time: float, frame: VideoFrame) -> None:
        if not self.sizes or self.sizes[-1] != (frame.width, frame.height):
            self.sizes.append((frame.width, frame.height))
            self.rotation = frame.rotation
        picture = luma(frame)
        dark = is_dark(picture, self._black_level(frame))
        same = self.still is not None and is_same(picture, self.still)
        self.black.see(time, dark)
        # what is black is not called frozen as well
        self.frozen.see(time, same and not dark, since=self.pace.last)
        if not same:
            self.still = picture
        self.pace.see(time)
        until = time + 1 / self.film.rate
        if self.sampler and self.sampler.wants(until):
            self.sampler.take(Thumb(time, Image.fromarray(self.to_rgb(frame))), until)

    def findings(self) -> VideoFindings:
        pace = self.pace
        end = pace.last + (pace.gap_s or 1 / self.film.rate)
        self._refuse_unreadable(end)
        turned = self.rotation % 180 != 0
        width, height = self.sizes[0]
        return VideoFindings(
            container=_container_name(self.film.container),
            codec=self.film.stream.codec_context.codec.canonical_name,
            width=height if turned else width,
            height=width if turned else height,
            rotation=-self.rotation % 360,
            frame_rate=round(pace.rate(self.film.rate), 3),
            variable_frame_rate=pace.variable,
            frames=pace.frames,
            duration_s=round(end - pace.first, 3),
            has_audio=bool(self.film.container.streams.audio),
            pixel_format=self.film.stream.codec_context.pix_fmt or "",
            black=tuple(self.black.end(end)),
            frozen=tuple(self.frozen.end(end)),
            warnings=tuple(self._warnings()),
        )

    def _refuse_unreadable(self, end: float) -> None:
        frames = self.pace.frames
        if truncation := self.film.truncation(frames, end):
            raise truncation
        if not frames:
            raise ItemError("damaged", "not one frame can be decoded")
        if self.film.broken > self.limits.damaged_frames:
            raise ItemError("damaged", self.film.damage(self.pace.frames))

    def _warnings(self) -> Iterator[str]:
        pace = self.pace
        if self.film.broken:
            yield self.film.damage(self.pace.frames)
        if self.film.stated_s is None:
            yield "the file states no length: a missing end would go unnoticed"
        if pace.has_hole:
            yield f"no frame for {pace.hole[1]:.1f} s at {pace.hole[0]:.1f} s"
        if len(self.sizes) > 1:
            yield "the size changes: " + ", ".join(f"{w}x{h}" for w, h in self.sizes[:4])
        shape = self.film.stream.sample_aspect_ratio
        if shape and shape != 1:
            yield f"pixels are not square ({shape.numerator}:{shape.denominator})"

    def _black_level(self, frame: VideoFrame) -> float:
        full_range = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        return self.limits.black_luma if full_range else 16 + self.limits.black_luma * 219 / 255


def _container_name(container: InputContainer) -> str:
    name = container.format.name
    if "mp4" not in name:
        return name.partition(",")[0]
    return "mov" if container.metadata.get("major_brand", "").startswith("qt") else "mp4"


def _thumb_size(width: int, height: int) -> tuple[int, int]:
    wide = thumb_width(width, height)
    return wide, max(2, round(wide * height / width))
