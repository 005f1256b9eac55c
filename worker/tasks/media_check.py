"""media-check: what a person runs before paying for a GPU. Which files are readable to the end, and what
is in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Json, Result
from worker.media.endings import PICTURES, VIDEOS
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.media.video import VideoLimits


class MediaCheckParams(Params):
    contact_sheet: bool = False
    """draw a page of evenly spaced frames for every video, a preview for every picture"""
    sheet_frames: int = Field(default=12, ge=1, le=60)
    black_luma: int = Field(default=20, ge=0, le=128)
    """level, of 255, at and below which a pixel is black"""
    min_black_s: float = Field(default=0.5, ge=0.1, le=3600)
    """shorter black stretches are not reported"""
    min_frozen_s: float = Field(default=2.0, ge=0.2, le=3600)
    """shorter frozen stretches are not reported"""
    damaged_frames: int = Field(default=0, ge=0)
    """so many frames may be damaged before a video fails"""
    max_megapixels: int = Field(default=100, ge=1, le=1000)
    """larger pictures and frames are refused: a small file can unpack to all of the memory"""


class MediaCheck(MapTask[MediaCheckParams, Answer]):
    name = "media-check"
    about = "is every video and picture readable to the end; what is in it; black and frozen stretches"
    params_type = MediaCheckParams
    suffixes = frozenset(VIDEOS | PICTURES)
    seconds_per_item = 2.0
    batch = 16

    def prepare(self, item: Item) -> Answer:
        """All of the work: it needs no device."""
        from worker.media.picture import is_picture

        file, params = item.file, self.params_of(item)
        if file is None:
            raise ItemError("missing", "there is no file to look at")
        return _picture(file, params) if is_picture(file) else _video(file, params)

    def answer(self, samples: Sequence[Answer]) -> Sequence[Answer | Failure]:
        return samples

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        keys = [r.outcome.keys for r in results if isinstance(r.outcome, Answer)]
        videos = [k for k in keys if k["kind"] == "video"]
        pictures = [k for k in keys if k["kind"] == "picture"]
        return {
            "kinds": _counts(k["kind"] for k in keys),
            "codecs": _counts(k["codec"] for k in videos),
            "formats": _counts(k["format"] for k in pictures),
            "sizes": _counts(_size(k) for k in keys),
            "frame_rates": _counts(_rate(k) for k in videos),
            "duration_s": round(math.fsum(k["duration_s"] for k in videos), 1),
            "variable_frame_rate": sum(k["variable_frame_rate"] for k in videos),
            "with_audio": sum(k["has_audio"] for k in videos),
            "with_black": sum(bool(k["black"]) for k in keys),
            "with_frozen": sum(bool(k["frozen"]) for k in videos),
            "rotated": sum(k["rotation"] != 0 for k in keys),
            "with_warnings": sum(bool(k["warnings"]) for k in keys),
        }

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        video = keys["kind"] == "video"
        return {
            "Kind": keys["kind"],
            "Codec": keys["codec"] if video else keys["format"],
            "Size": _size(keys),
            "Rate": _rate(keys) if video else "",
            "Duration": f"{keys['duration_s']:.1f} s" if video else "",
            "Notes": "; ".join(_notes(keys)),
        }


def _video(file: Path, params: MediaCheckParams) -> Answer:
    from worker.media.contact_sheet import contact_sheet
    from worker.media.video import check_video

    sheet_frames = params.sheet_frames if params.contact_sheet else 0
    found, thumbs = check_video(file, _limits(params), sheet_frames)
    holds = "mp4" if found.container == "mov" else found.container
    return Answer(
        _keys("video", found, file, holds),
        {"contact_sheet.jpg": contact_sheet(thumbs)} if thumbs else {},
    )


def _picture(file: Path, params: MediaCheckParams) -> Answer:
    from worker.media.contact_sheet import jpeg
    from worker.media.picture import check_picture

    max_pixels = params.max_megapixels * 1_000_000
    found, preview = check_picture(file, max_pixels=max_pixels, black_luma=params.black_luma)
    return Answer(
        _keys("picture", found, file, found.format),
        {"contact_sheet.jpg": jpeg(preview)} if params.contact_sheet else {},
    )


def _limits(params: MediaCheckParams) -> VideoLimits:
    from worker.media.video import VideoLimits

    return VideoLimits(
        max_pixels=params.max_megapixels * 1_000_000,
        black_luma=params.black_luma,
        min_black_s=params.min_black_s,
        min_frozen_s=params.min_frozen_s,
        damaged_frames=params.damaged_frames,
    )


def _keys(kind: str, found: Any, file: Path, holds: str) -> dict[str, Json]:
    """The findings as JSON has them, and a word when the name promises something else."""
    keys: dict[str, Json] = {"kind": kind, **asdict(found)}
    for name, value in keys.items():
        if isinstance(value, tuple):
            keys[name] = [list(v) if isinstance(v, tuple) else v for v in value]
    ending = file.suffix.lower()
    if (VIDEOS | PICTURES).get(ending, holds) != holds:
        keys["warnings"].append(f"it is named {ending} but holds {holds}")
    return keys


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _size(keys: Mapping[str, Json]) -> str:
    return f"{keys['width']}x{keys['height']}"


def _rate(keys: Mapping[str, Json]) -> str:
    return f"{keys['frame_rate']:g}" + (" variable" if keys["variable_frame_rate"] else "")


def _notes(keys: Mapping[str, Json]) -> Iterable[str]:
    if keys["rotation"]:
        yield f"rotated {keys['rotation']}°"
    if keys["kind"] == "video":
        for what in ("black", "frozen"):
            yield from (f"{what} {start:g}–{end:g} s" for start, end in keys[what])
    else:
        if keys["frames"] > 1:
            yield f"{keys['frames']} frames"
        if keys["black"] or keys["uniform"]:
            yield "black" if keys["black"] else "one colour"
    yield from keys["warnings"]
