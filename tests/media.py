"""Small videos and pictures, good and broken, made for the tests."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray
from PIL import Image

Drawing = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 96
FASTSTART = {"movflags": "faststart"}
B_FRAMES = {"bf": "2", "g": "30", "preset": "veryfast"}

_TEXTURE = np.random.default_rng(7).integers(60, 200, (HEIGHT, 4000, 3), dtype=np.uint8)


def moving(n: int) -> Drawing:
    """A textured wall passes by, so that packets have some size."""
    return np.ascontiguousarray(_TEXTURE[:, 4 * n : 4 * n + WIDTH])


def still(_n: int) -> Drawing:
    return moving(0)


def dark(n: int) -> Drawing:
    """Black with a little noise, as a covered camera sees it."""
    return np.random.default_rng(n).integers(0, 8, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def film(
    path: Path,
    draw: Callable[[int], Drawing] = moving,
    *,
    frames: int = 60,
    rate: int = 30,
    times: Iterable[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    rotation: int = 0,
    tone: bool = False,
) -> Path:
    """`times`: when each frame is shown, in units of 1/rate."""
    with _in_its_own_time(), av.open(str(path), "w", options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, rate)
        if rotation:
            stream.set_display_rotation(-rotation)
        sound = out.add_stream("aac", rate=16000, layout="mono") if tone else None
        for n, at in enumerate(times if times is not None else range(frames)):
            frame = av.VideoFrame.from_ndarray(draw(n), "rgb24").reformat(*size)
            frame.pts, frame.time_base = at, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound:
            _hum(out, sound, 2 * 16)
    return path


@contextmanager
def _in_its_own_time() -> Iterator[None]:
    """The encoder of AV1, where root runs it, gives real-time priority to whoever calls it, and for good.

    All that a test starts later would have it too, and what waits in a loop would hold up the machine."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def all_frames(path: Path) -> list[tuple[float, VideoFrame]]:
    """Every frame with its time, by the plainest way there is."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        start = (container.start_time or 0) / av.time_base
        frames = list(container.decode(stream))
        is_avi, rate = container.format.name == "avi", stream.average_rate or stream.guessed_rate
        assert stream.time_base
        assert rate
        shown: list[tuple[float, VideoFrame]] = []
        for frame in frames:
            ticks = frame.dts if is_avi else frame.pts
            # bare streams know no times, nor does AVI for the last frames behind its B-frames
            made_up = shown[-1][0] + float(1 / rate) if shown else 0.0
            shown.append((made_up if ticks is None else float(ticks * stream.time_base) - start, frame))
        return shown


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        _hum(out, out.add_stream("aac", rate=16000, layout="mono"), 16)
    return path


def _hum(out: av.container.OutputContainer, stream: av.AudioStream, blocks: int) -> None:
    for n in range(blocks):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, n * 1000, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def cut(path: Path, share: float) -> Path:
    """Truncated, as by a copy that stopped."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def holed(path: Path, at: float = 0.5, share: float = 0.1) -> Path:
    """Zeros in the middle, as where a download left out a piece."""
    data = bytearray(path.read_bytes())
    start, length = int(len(data) * at), int(len(data) * share)
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    return path


def shown_from(path: Path, start_s: int, length_s: int) -> Path:
    """An edit list: the index holds all frames, only these are to be shown. Wants FASTSTART."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    media_time = struct.unpack_from(">i", data, entry + 4)[0]
    with av.open(str(path)) as film:
        base = film.streams.video[0].time_base
    assert base
    struct.pack_into(">Ii", data, entry, 1000 * length_s, media_time + base.denominator * start_s)
    path.write_bytes(data)
    return path


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (64, 48), **save: object) -> Path:
    noise = np.random.default_rng(3).integers(40, 220, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **save)  # type: ignore[arg-type]
    return path


def turned_jpeg(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(path, exif=exif)


def deep_png(path: Path, low: int, high: int) -> Path:
    """16 bit grey, a ramp from low to high."""
    ramp = np.linspace(low, high, 64 * 48).astype(np.uint16).reshape(48, 64)
    Image.fromarray(ramp).save(path)
    return path


def animation(path: Path, frames: int = 5) -> Path:
    pages = [Image.fromarray(moving(10 * n)) for n in range(frames)]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    return path


def bomb(path: Path, side: int = 30_000) -> Path:
    """A PNG of a few hundred bytes that says it is side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))
    return path
