"""A video: walked from the first frame to the last, once, and what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from PIL import Image

from worker.errors import ItemError
from worker.media.contact_sheet import Sampler, Thumb, thumb_width
from worker.media.container import opened
from worker.media.luma import Luma, is_dark, is_same, luma
from worker.media.pace import Pace
from worker.media.stretches import Stretches

_SLACK_S = 0.5
"""by how much a stated duration may exceed the last packet: sound and rounding end where they like"""
_LENGTHLESS = frozenset(("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu"))


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
        for packet in walk.packets():
            walk.see_packet(packet)
        return walk.findings(), walk.sampler.thumbs if walk.sampler else []


class _Walk:
    """One pass over one file; only small numbers and thumbs are kept."""

    def __init__(self, container: InputContainer, limits: VideoLimits, sheet_frames: int) -> None:
        self.container = container
        self.limits = limits
        self.stream = _picture_stream(container)
        self.start = (container.start_time or 0) / av.time_base
        self.stated_s = _stated_length(container, self.stream)
        self.sampler = Sampler(sheet_frames, self.stated_s) if sheet_frames else None
        self.pace = Pace()
        self.black = Stretches(limits.min_black_s)
        self.frozen = Stretches(limits.min_frozen_s)
        self.packets_seen = 0
        self.reached_s = 0.0
        """where the last packet of any stream ends"""
        self.broken = 0
        """damaged frames"""
        self.first_break = 0.0
        self.sizes: list[tuple[int, int]] = []
        self.rotation = 0
        self.still: Luma | None = None
        """the first frame of those that all look alike: compared with it, a slow drift is no freeze"""
        width, height = self.stream.codec_context.width, self.stream.codec_context.height
        if width * height > limits.max_pixels:
            most = limits.max_pixels / 1e6
            raise ItemError(
                "too-large", f"{width}x{height}, more than {most:.0f} megapixels (see max_megapixels)"
            )
        # One thread: the answer is the same on every machine, and the loop runs several children anyway.
        self.stream.codec_context.thread_count = 1

    def packets(self) -> Iterator[Packet[Stream]]:
        try:
            yield from self.container.demux()
        except IndexError:  # PyAV's, behind the last packet, when a stream had appeared late (MPEG-TS)
            return
        except av.FFmpegError:  # the rest cannot be read; what is missing shows at the end
            self._see_break(self.pace.last)

    def see_packet(self, packet: Packet[Stream]) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base is not None:
            end = float((time + (packet.duration or 0)) * packet.time_base) - self.start
            self.reached_s = max(self.reached_s, end)
        if packet.stream.index != self.stream.index:  # stream_index is 0 in every last, empty packet
            return
        self.packets_seen += packet.size > 0
        try:
            # not packet.decode(): a damaged file may make PyAV take the stream for another kind
            for frame in self.stream.decode(packet):
                self.see_frame(frame)
        except av.FFmpegError:
            self._see_break(self.pace.last)

    def see_frame(self, frame: VideoFrame) -> None:
        time = self._time_of(frame)
        if frame.is_corrupt:
            self._see_break(time)
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
        until = time + 1 / self._nominal_rate
        if self.sampler and self.sampler.wants(until):
            self.sampler.take(Thumb(time, _thumb(frame)), until)

    def findings(self) -> VideoFindings:
        pace = self.pace
        end = pace.last + (pace.gap_s or 1 / self._nominal_rate)
        self._refuse_unreadable(end)
        turned = self.rotation % 180 != 0
        width, height = self.sizes[0]
        return VideoFindings(
            container=_container_name(self.container),
            codec=self.stream.codec_context.codec.canonical_name,
            width=height if turned else width,
            height=width if turned else height,
            rotation=-self.rotation % 360,
            frame_rate=round(pace.rate(self._nominal_rate), 3),
            variable_frame_rate=pace.variable,
            frames=pace.frames,
            duration_s=round(end - pace.first, 3),
            has_audio=bool(self.container.streams.audio),
            pixel_format=self.stream.codec_context.pix_fmt or "",
            black=tuple(self.black.end(end)),
            frozen=tuple(self.frozen.end(end)),
            warnings=tuple(self._warnings()),
        )

    def _refuse_unreadable(self, end: float) -> None:
        frames = self.pace.frames
        stated_s = self.stated_s or 0.0
        missing = _missing_packets(self.container, self.stream, self.packets_seen)
        if missing or stated_s - self.reached_s > self._slack_s:
            end = end if frames else 0.0
            total = max(round(stated_s * self._nominal_rate), frames + missing)
            where = f"{end:.1f} s of {max(stated_s, end):.1f} s"
            raise ItemError("truncated", f"{frames} of {total} frames readable, {where}")
        if not frames:
            raise ItemError("damaged", "not one frame can be decoded")
        if self.broken > self.limits.damaged_frames:
            raise ItemError("damaged", self._damage())

    def _damage(self) -> str:
        total = max(self.packets_seen, self.pace.frames)
        return f"{self.broken} of {total} frames damaged, the first at {self.first_break:.1f} s"

    def _warnings(self) -> Iterator[str]:
        pace = self.pace
        if self.broken:
            yield self._damage()
        if self.stated_s is None:
            yield "the file states no length: a missing end would go unnoticed"
        if pace.has_hole:
            yield f"no frame for {pace.hole[1]:.1f} s at {pace.hole[0]:.1f} s"
        if len(self.sizes) > 1:
            yield "the size changes: " + ", ".join(f"{w}x{h}" for w, h in self.sizes[:4])
        shape = self.stream.sample_aspect_ratio
        if shape and shape != 1:
            yield f"pixels are not square ({shape.numerator}:{shape.denominator})"

    def _see_break(self, time: float) -> None:
        if self.broken == 0:
            self.first_break = max(0.0, time)
        self.broken += 1

    @property
    def _slack_s(self) -> float:
        # AVI counts frames, one stream apart from the other: there, two frames are two frames
        return 1.5 / self._nominal_rate if self.container.format.name == "avi" else _SLACK_S

    @property
    def _nominal_rate(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or 25)

    def _time_of(self, frame: VideoFrame) -> float:
        # AVI keeps no times of showing; with B-frames those that the reader makes up go back and forth
        ticks = frame.dts if self.container.format.name == "avi" else frame.pts
        if ticks is None or frame.time_base is None:
            return self.pace.last + 1 / self._nominal_rate if self.pace.frames else 0.0
        return float(ticks * frame.time_base) - self.start

    def _black_level(self, frame: VideoFrame) -> float:
        full_range = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        return self.limits.black_luma if full_range else 16 + self.limits.black_luma * 219 / 255


def _picture_stream(container: InputContainer) -> VideoStream:
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        sound = " (only sound)" if container.streams.audio else ""
        raise ItemError("no-video", f"there is no video stream in it{sound}")
    if getattr(films[0], "codec_context", None) is None:
        raise ItemError("unknown-codec", "there is no decoder for its video stream")
    return films[0]


def _stated_length(container: InputContainer, stream: VideoStream) -> float | None:
    """What the file itself says. Where it says nothing the reader guesses from what is there,
    and a guess from a truncated file cannot show that it is truncated."""
    if container.format.name in _LENGTHLESS:
        return None
    stated = (container.duration or 0) / av.time_base
    if container.format.name == "avi" and stream.average_rate:  # the reader shortens it to what is there
        stated = max(stated, stream.frames / float(stream.average_rate))
    return stated or None


def _missing_packets(container: InputContainer, stream: VideoStream, seen: int) -> int:
    """How many of the packets in an mp4's index were not there. Not nb_frames: it counts, beside an edit
    list, frames that are not to be read."""
    return max(0, len(stream.index_entries) - seen) if "mp4" in container.format.name else 0


def _container_name(container: InputContainer) -> str:
    name = container.format.name
    if "mp4" not in name:
        return name.partition(",")[0]
    return "mov" if container.metadata.get("major_brand", "").startswith("qt") else "mp4"


def _thumb(frame: VideoFrame) -> Image.Image:
    turned = frame.rotation % 180 != 0
    shown = (frame.height, frame.width) if turned else (frame.width, frame.height)
    width = thumb_width(*shown)
    height = max(2, round(width * shown[1] / shown[0]))
    if turned:
        width, height = height, width
    image = Image.fromarray(frame.reformat(width, height, "rgb24").to_ndarray())
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
