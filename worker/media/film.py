"""A film in a file: which stream it is, when its frames are shown, and whether its end is missing."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.stream import Disposition, Stream

from worker.errors import ItemError

MAX_PIXELS = 100_000_000
_SLACK_S = 0.5
"""by how much a stated duration may exceed the last packet: sound and rounding end where they like"""
_LENGTHLESS = frozenset(("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu"))


class Film:
    """The first video stream of an open file. It counts the packets that pass by, so that it can say at the
    end whether some are missing."""

    def __init__(self, container: InputContainer, max_pixels: int = MAX_PIXELS) -> None:
        self.container = container
        self.stream = _picture_stream(container)
        self.codec = self.stream.codec_context
        self.start_s = (container.start_time or 0) / av.time_base
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        """frames a second, as the file says"""
        self.stated_s = _stated_length(container, self.stream)
        """None: the file does not say how long it is"""
        self.packets_seen = 0
        self.reached_s = 0.0
        """where the last packet of any stream ends"""
        self.broke_off = False
        """the container could not be read to its end"""
        width, height = self.codec.width, self.codec.height
        if width * height > max_pixels:
            most = max_pixels / 1e6
            raise ItemError(
                "too-large", f"{width}x{height}, more than {most:.0f} megapixels (see max_megapixels)"
            )
        # One thread: the answer is the same on every machine, and the loop runs several children anyway.
        self.codec.thread_count = 1

    def packets(self) -> Iterator[Packet[Stream]]:
        """The picture stream's packets, the last one empty; those of the others are read and counted."""
        try:
            for packet in self.container.demux():
                if self._count(packet):
                    yield packet
        except IndexError:  # PyAV's, behind the last packet, when a stream had appeared late (MPEG-TS)
            return
        except av.FFmpegError:  # the rest cannot be read; what is missing shows at the end
            self.broke_off = True

    def _count(self, packet: Packet[Stream]) -> bool:
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None and packet.time_base is not None:
            end = float((ticks + (packet.duration or 0)) * packet.time_base) - self.start_s
            self.reached_s = max(self.reached_s, end)
        if packet.stream.index != self.stream.index:  # stream_index is 0 in every last, empty packet
            return False
        self.packets_seen += packet.size > 0
        return True

    def decode(self, packet: Packet[Stream] | None) -> list[VideoFrame]:
        # not packet.decode(): a damaged file may make PyAV take the stream for another kind
        return self.stream.decode(packet)

    def ticks_of(self, one: Packet[Stream] | VideoFrame) -> int | None:
        """When it is shown, in units of the stream's time base."""
        # AVI keeps no times of showing; with B-frames those that the reader makes up go back and forth
        return one.dts if self.is_avi else one.pts

    def seconds(self, ticks: int) -> float:
        assert self.stream.time_base is not None
        return float(ticks * self.stream.time_base) - self.start_s

    @property
    def is_avi(self) -> bool:
        return self.container.format.name == "avi"

    @property
    def is_mp4(self) -> bool:
        return "mp4" in self.container.format.name

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
