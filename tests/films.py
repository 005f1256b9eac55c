"""Films of every kind that reading has to cope with: a name → a function that makes one in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import media

OPEN_GOP = {"x264-params": "open-gop=1:keyint=15:bframes=3:b-pyramid=normal:b-adapt=0"}
HEVC = {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20"}}
MPEG2 = {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}
UNSTEADY = [3 * n + n % 3 + (40 if n > 20 else 0) for n in range(50)]
HIDING = {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16"}
REFRESH = {"x264-params": "intra-refresh=1:keyint=20"}
"""no keyframe but the first: the picture is renewed column by column"""


def _film(name: str, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: media.film(folder / name, **{"options": media.B_FRAMES, **options})


def _edited(folder: Path) -> Path:
    path = _film("a.mp4", frames=90, muxer=media.FASTSTART)(folder)
    return media.shown_from(path, start_s=1, length_s=1)


def _all_marked(folder: Path) -> Path:
    """Without the list of keyframes every frame counts as one."""
    path = _film("a.mp4", muxer=media.FASTSTART)(folder)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    return path


FILMS: dict[str, Callable[[Path], Path]] = {
    "B-frames in mp4": _film("a.mp4"),
    "B-frames in mov, with sound": _film("a.mov", tone=True),
    "B-frames in matroska": _film("a.mkv"),
    "B-frames in matroska, no length": _film("a.mkv", muxer={"live": "1"}),
    "B-frames in flv": _film("a.flv"),
    "B-frames in mpegts": _film("a.ts"),
    "B-frames in fragments": _film("a.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}),
    "B-frames in avi": _film("a.avi"),
    "B-frames bare": _film("a.h264"),
    "open GOPs": _film("a.mp4", frames=90, options=OPEN_GOP),
    "open GOPs in matroska": _film("a.mkv", frames=90, options=OPEN_GOP),
    "open GOPs in mpegts": _film("a.ts", frames=90, options=OPEN_GOP),
    "short GOPs": _film("a.mp4", options={"g": "3", "bf": "2"}),
    "keyframes alone": _film("a.mp4", options={"g": "1"}),
    "one keyframe": _film("a.mp4", options=REFRESH, frames=100),
    "wrong marks of keyframes": _all_marked,
    "interlaced": _film("a.mp4", options={"x264-params": "tff=1:bframes=2:keyint=20"}),
    "variable rate": _film("a.mp4", times=UNSTEADY),
    "variable rate in matroska": _film("a.mkv", times=UNSTEADY),
    "edit list": _edited,
    "HEVC": _film("a.mp4", **HEVC),
    "HEVC in matroska": _film("a.mkv", **HEVC),
    "HEVC, 10 bit": _film("a.mp4", pixels="yuv420p10le", **HEVC),
    "10 bit": _film("a.mp4", pixels="yuv420p10le"),
    "odd size": _film("a.mp4", size=(101, 75), pixels="yuv444p"),
    "turned": _film("a.mp4", rotation=90),
    "MPEG-4 in avi": _film("a.avi", codec="mpeg4", options={"g": "12"}),
    "MPEG-4 with B-frames in avi": _film("a.avi", codec="mpeg4", options={"bf": "2"}),
    "MPEG-4 with B-frames in mp4": _film("a.mp4", codec="mpeg4", options={"bf": "2"}),
    "frames dropped in avi": _film(
        "a.avi", codec="mpeg4", options={}, times=[n for n in range(60) if n % 10 not in (3, 4)]
    ),
    "MPEG-2": _film("a.mpg", **MPEG2),
    "MPEG-2 in mpegts": _film("a.ts", **MPEG2),
    "VP9": _film("a.webm", codec="libvpx-vp9", options=HIDING),
    "VP8, hidden frames": _film("a.webm", codec="libvpx", options=HIDING),
    "AV1": _film("a.mp4", codec="libsvtav1", options={"preset": "10", "svtav1-params": "lp=1"}),
    "one frame": _film("a.mp4", frames=1),
}
