"""A film in a file: which stream it is, when its frames are shown, and whether its end is missing."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, takewhile
from typing import Any, Literal

import av
import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from numpy.typing import NDArray

from worker import signs
from worker.errors import ItemError
from worker.media.choice import Times

MAX_PIXELS = 100_000_000
_SLACK_S = 0.5
"""by how much a stated duration may exceed the last packet: sound and rounding end where they like"""
_HIDING = frozenset(("vp8",))
"""codecs with packets that show nothing"""
_EARLY_S = (0.0, 1.0, 10.0)
"""some readers do not go to a keyframe but near to it, or behind it"""
_LENGTHLESS = frozenset(("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu"))


class Film:
    """The first video stream of an open file. It counts the packets that pass by, so that it can say at the
    end whether some are missing."""

    def __init__(self, container: InputContainer, max_pixels: int = MAX_PIXELS) -> None:
        self.container = container
        self.is_avi, self.is_mp4 = container.format.name == "avi", "mp4" in container.format.name
        self.stream = _picture_stream(container)
        self.codec = self.stream.codec_context
        self.base = self.stream.time_base or Fraction(1, av.time_base)
        """seconds a tick"""
        self.start_s = (container.start_time or 0) / av.time_base
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        """frames a second, as the file says"""
        self.stated_s = _stated_length(container, self.stream)
        """None: the file does not say how long it is"""
        self.packets_seen = 0
        self._ends: dict[int, int] = {}
        """where the last packet of each stream ends, in its ticks"""
        self.broken = 0
        """damaged frames"""
        self.first_break_s = 0.0
        self._last_s: float | None = None
        """when the last decoded frame is shown"""
        self._began: int | None = None
        """the time of the keyframe that was last gone to"""
        self.went_wrong = False
        """that was none: what follows may lack what it refers to"""
        width, height = self.codec.width, self.codec.height
        if width * height > max_pixels:
            most = max_pixels / 1e6
            raise ItemError(
                "too-large", f"{width}x{height}, more than {most:.0f} megapixels (see max_megapixels)"
            )
        self._skip: Literal["DEFAULT", "NONREF"] = "DEFAULT"
        # One thread: the answer is the same on every machine, and the loop runs several children anyway.
        self.codec.thread_count = 1

    def packets(self) -> Iterator[Packet[Stream]]:
        """The picture stream's packets, the last one empty; those of the others are read and counted."""
        cut: Packet[Stream] | None = None
        try:
            for packet in self._demux():
                if packet.stream is not self.stream:
                    self._count(packet)
                    continue
                if cut and packet.size:  # not the last one: it may be of use
                    yield self._count(cut)
                cut = packet if packet.is_corrupt else None
                if not cut:
                    yield self._count(packet)
        except IndexError:  # PyAV's, behind the last packet, when a stream had appeared late (MPEG-TS)
            return
        except av.FFmpegError:  # the rest cannot be read; what is missing shows at the end
            self._break(self._last_s)

    def _count(self, packet: Packet[Stream]) -> Packet[Stream]:
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None:
            # in the stream's own units: a fraction for each packet would cost as much as reading it
            end = ticks + (packet.duration or 0)
            if end > self._ends.get(packet.stream_index, 0):
                self._ends[packet.stream_index] = end
        self.packets_seen += packet.stream is self.stream and packet.size > 0
        return packet

    def take_as_read(self, packets: int, last: int) -> None:
        """The index says that so many are there, the last of them shown at that time."""
        self.packets_seen = packets
        self._ends[self.stream.index] = last + int(1 / self.rate / self.base)
        for stream in self.container.streams:
            if stream is not self.stream and len(stream.index_entries):
                self._ends[stream.index] = stream.index_entries[-1].timestamp

    @property
    def reached_s(self) -> float:
        """where the last packet of any stream ends"""
        bases = ((self.container.streams[n].time_base or 0, end) for n, end in self._ends.items())
        return max((float(end * base) - self.start_s for base, end in bases), default=0.0)

    def decode(
        self, packet: Packet[Any] | None, *, wanted: bool = True
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Frames and their times; None: the frames that are still held back. Damage is counted. A packet
        whose frame is not wanted is not decoded either, if no other frame refers to it."""
        skip: Literal["DEFAULT", "NONREF"] = (
            "DEFAULT" if wanted or packet is None or packet.is_keyframe else "NONREF"
        )
        if skip != self._skip:
            self.codec.skip_frame = self._skip = skip
        try:
            # not packet.decode(): a damaged file may make PyAV take the stream for another kind
            frames = self.stream.decode(packet)
        except av.FFmpegError:
            self._break(self._last_s)
            return
        for frame in frames:
            ticks = self.ticks_of(frame)
            if ticks is not None:
                self._last_s = self.seconds(ticks)
            else:
                self._last_s = 0.0 if self._last_s is None else self._last_s + 1 / self.rate
            if frame.is_corrupt:
                self._break(self._last_s)
            if ticks is not None and ticks == self._began:
                self.went_wrong = not frame.key_frame
            yield self._last_s, frame

    def _break(self, time: float | None) -> None:
        if self.broken == 0:
            self.first_break_s = max(0.0, time or 0.0)
        self.broken += 1

    def from_keyframe(self, ticks: int) -> Iterator[Packet[Any]]:
        """The packets from this keyframe on; none if the reader does not find the way there."""
        for early_s in _EARLY_S:
            packets = self._from(ticks - int(early_s / self.base))
            # behind one that is decoded later than the keyframe is shown it cannot come any more
            before = takewhile(lambda one: one.dts is None or one.dts <= ticks, packets)
            first = next((one for one in before if one.is_keyframe and self.ticks_of(one) == ticks), None)
            if first:
                self._began = ticks
                return chain((first,), packets)
        return iter(())

    def around(self, time: float) -> Iterator[Packet[Any]]:
        """The packets from a keyframe shown no later than that time; none if the reader finds no such."""
        for early_s in _EARLY_S:
            packets = self._from(int((time + self.start_s - early_s) / self.base))
            first = next(packets, None)
            at = None if first is None else self.ticks_of(first)
            if first is not None and first.is_keyframe and at is not None and self.seconds(at) <= time:
                self._began = at
                return chain((first,), packets)
        return iter(())

    def _from(self, ticks: int) -> Iterator[Packet[Any]]:
        """From somewhere before that time, if the reader can."""
        for stream in self.container.streams:
            stream.discard = Discard.default if stream is self.stream else Discard.all
        try:
            self.container.seek(ticks, stream=self.stream)  # and the decoder forgets
            yield from (packet for packet in self._demux(self.stream) if packet.size)
        except av.FFmpegError:
            return

    def _demux(self, *streams: VideoStream) -> Iterator[Packet[Stream]]:
        for packet in self.container.demux(*streams):
            signs.give()
            yield packet

    def ticks_of(self, one: Packet[Any] | VideoFrame) -> int | None:
        """When it is shown, in units of the stream's time base."""
        # AVI keeps no times of showing; with B-frames those that the reader makes up go back and forth
        return one.dts if self.is_avi else one.pts

    def seconds(self, ticks: int) -> float:
        return float(ticks * self.base) - self.start_s

    def all_seconds(self, ticks: NDArray[np.int64]) -> Times:
        return ticks * self.base.numerator / self.base.denominator - self.start_s

    @property
    def hides_times(self) -> bool:
        """Is it not to be told from a packet whether and when its frame is shown?"""
        return self.codec.name in _HIDING or (self.is_avi and self.codec.has_b_frames > 0)

    @property
    def tells_times(self) -> bool:
        """Does every packet say when its frame is shown?"""
        kept = self.is_mp4 or self.is_avi or self.container.format.name.startswith("matroska")
        return kept and not self.hides_times

    def truncation(self, frames: int, end_s: float) -> ItemError | None:
        """Asked behind the last packet: is less there than the file says? So many frames were readable,
        and the last of them ends there."""
        stated_s = self.stated_s or 0.0
        missing = self._missing_packets()
        # AVI counts frames, one stream apart from the other: there, two frames are two frames
        slack_s = 1.5 / self.rate if self.is_avi else _SLACK_S
        if not missing and stated_s - self.reached_s <= slack_s:
            return None
        end_s = end_s if frames else 0.0
        total = max(round(stated_s * self.rate), frames + missing)
        where = f"{end_s:.1f} s of {max(stated_s, end_s):.1f} s"
        return ItemError("truncated", f"{frames} of {total} frames readable, {where}")

    def damage(self, frames: int) -> str:
        total = max(self.packets_seen, frames)
        return f"{self.broken} of {total} frames damaged, the first at {self.first_break_s:.1f} s"

    def _missing_packets(self) -> int:
        """How many of the packets in an mp4's index were not there. Not nb_frames: it counts, beside an edit
        list, frames that are not to be read."""
        return max(0, len(self.stream.index_entries) - self.packets_seen) if self.is_mp4 else 0


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
