"""A live stream becomes files: windows that overlap, cut where a film can be cut, the bytes as they came."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import av
from av import Packet, VideoStream

from worker.errors import UsageError
from worker.media.stamp import stamp
from worker.redact import redact

log = logging.getLogger(__name__)

SILENCE_S = 10.0
"""a source that sends nothing for so long is opened anew"""
KEYFRAME_S = 60.0
"""without one for so long, the windows would be as long as the stream"""
ENDING = ".mkv"
"""takes every codec, and is readable up to where it was cut off"""

_OPTIONS = {"rtsp_transport": "tcp"}
"""over UDP a camera's packets are lost as soon as a network is busy"""
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
Wait: TypeAlias = Callable[[float], bool]
"""sleeps for so long; True: it was told to stop"""


def record(url: str, folder: Path, window_s: float, overlap_s: float, pause_s: float, wait: Wait) -> int:
    """Until it is told to stop, or a file is at its end; → windows written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _hold(folder)
        for left in folder.glob(f".*{ENDING}"):
            left.unlink()  # of one who was killed
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; give another folder") from None
    try:
        return _record(url, folder, Windows(folder, window_s, overlap_s), pause_s, wait)
    finally:
        os.close(lock)


def _hold(folder: Path) -> int:
    """Nobody else records into it until this is closed, by our death too."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"{folder}: another recorder writes there; give another folder") from None
    except OSError:
        log.debug("%s is on a file system without locks", folder)
    return lock


def _record(url: str, folder: Path, windows: Windows, pause_s: float, wait: Wait) -> int:
    while True:
        why = ""
        try:
            _listen(url, windows, wait)
        except av.FFmpegError as error:
            why = error.strerror or type(error).__name__
            if error.errno in _OF_THE_DISK:
                raise UsageError(f"{folder}: {why}; make room there, or give another folder") from None
        windows.close()
        if "://" not in url:
            if why:
                raise UsageError(f"{url}: {why}")
            return windows.written
        if wait(0):
            return windows.written
        log.warning("%s: %s; opened again in %g s", redact(url), why or "the stream ended", pause_s)
        if wait(pause_s):
            return windows.written


def _listen(url: str, windows: Windows, wait: Wait) -> None:
    with av.open(url, options=_OPTIONS, timeout=(SILENCE_S, SILENCE_S)) as source:
        if not source.streams.video:
            raise UsageError(f"{redact(url)} has no video")
        for packet in source.demux(source.streams.video[0]):
            windows.take(packet)
            if wait(0):
                return


class Windows:
    """A window begins at a keyframe; the one before it goes on until they share enough."""

    def __init__(self, folder: Path, window_s: float, overlap_s: float) -> None:
        self._folder = folder
        self._step_s = window_s - overlap_s
        self._overlap_s = overlap_s
        self._open: list[_Window] = []
        self.written = 0
        self._last_s = 0.0
        self._decoded_s: float | None = None
        self._zero = datetime.now(UTC)
        """when the stream's own clock, from which the names of its windows are told, stood at 0"""

    def take(self, packet: Packet[VideoStream]) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or packet.time_base is None or not packet.size:
            return  # the end of a stream, or a packet that nobody can place
        now = float(time * packet.time_base)
        decoded = None if packet.dts is None else float(packet.dts * packet.time_base)
        if self._open and self._jumps(now, decoded, packet.is_keyframe):
            log.warning("the source's clock has jumped: a new window begins at the next keyframe")
            self.close()
        self._last_s = now
        self._decoded_s = self._decoded_s if decoded is None else decoded
        if packet.is_keyframe and (not self._open or now - self._open[-1].start_s >= self._step_s):
            if not self._open:
                self._zero = datetime.now(UTC) - timedelta(seconds=now)
            self._open.append(_Window(self._folder, packet, now, self._zero + timedelta(seconds=now)))
        if len(self._open) > 1 and now - self._open[-1].start_s >= self._overlap_s:
            self._finish(self._open.pop(0))
        for window in self._open:
            window.write(packet)
        if self._open and now - self._open[-1].start_s > self._step_s + KEYFRAME_S:
            raise UsageError(
                f"no keyframe for {KEYFRAME_S:g} s, so there is no place to cut: set the camera's keyframe "
                "interval (GOP) to 2 s or less"
            )

    def _jumps(self, now: float, decoded: float | None, keyframe: bool) -> bool:
        """Has the source's clock gone back, or far on? By the order of decoding: what is shown goes back at
        every B-frame, and never at a keyframe."""
        if decoded is None or self._decoded_s is None:
            return abs(now - self._last_s) > KEYFRAME_S or (keyframe and now < self._last_s)
        return not 0 <= decoded - self._decoded_s <= KEYFRAME_S

    def close(self) -> None:
        """The younger of two holds nothing that the older one lacks."""
        for window in self._open[1:]:
            window.discard()
        for window in self._open[:1]:
            self._finish(window)
        self._open = []
        self._decoded_s = None

    def _finish(self, window: _Window) -> None:
        try:
            log.info("%s: %.1f s", window.finish(), self._last_s - window.start_s)
        except FileNotFoundError:
            log.warning("%s is lost: somebody removed it while it was written", window.file)
        else:
            self.written += 1


class _Window:
    """One file, hidden until it is whole, named by when it began."""

    def __init__(self, folder: Path, first: Packet[VideoStream], start_s: float, began: datetime) -> None:
        self.start_s = start_s
        self._start = first.pts if first.pts is not None else first.dts
        name = stamp(began) + ENDING
        self.file, self._hidden = folder / name, folder / f".{name}"
        self._out = av.open(str(self._hidden), "w", format="matroska")
        assert isinstance(first.stream, VideoStream)
        self._stream = self._out.add_stream_from_template(first.stream)

    def write(self, packet: Packet[VideoStream]) -> None:
        assert self._start is not None
        if packet.pts is not None and packet.pts < self._start:
            return  # leads up to the keyframe, and cannot be decoded without what came before
        copy = Packet(bytes(packet))
        copy.stream, copy.time_base, copy.is_keyframe = self._stream, packet.time_base, packet.is_keyframe
        copy.pts = None if packet.pts is None else packet.pts - self._start
        copy.dts = None if packet.dts is None else packet.dts - self._start
        copy.duration = packet.duration
        self._out.mux(copy)

    def finish(self) -> Path:
        self._out.close()
        self._hidden.replace(self.file)
        return self.file

    def discard(self) -> None:
        with suppress(av.FFmpegError):
            self._out.close()
        self._hidden.unlink(missing_ok=True)
