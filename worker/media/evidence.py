"""What is shown to a person as proof: a short clip cut out of a film, and frames with boxes on them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import av
from PIL import Image, ImageDraw, ImageFont

from worker.media.contact_sheet import jpeg
from worker.media.rgb import Rgb
from worker.media.streaming import Stream

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour: TypeAlias = tuple[int, int, int]

_INK, _PLATE = (255, 255, 255), (24, 26, 30)
# One thread, and nothing in the file of when and by what it was written: the same bytes from the same film.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "26", "threads": "1"},
    "mpeg4": {"b": "2000000", "threads": "1"},
}
"""the first that is there; browsers do not play the second"""
_TICK = Fraction(1, 60_000)
_CHINESE = ("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf")
"""Pillow's own font has no Chinese; one of these is on most systems, or a package away"""


@dataclass(frozen=True, slots=True)
class Box:
    """Sides in shares of the frame's width and height: right whatever size the frame was looked at."""

    left: float
    top: float
    right: float
    bottom: float
    label: str = ""
    colour: Colour = (220, 60, 30)


def clip(path: Path, from_s: float, to_s: float, *, width: int = 640, fps: float = 10.0) -> bytes:
    """What is shown from the one time until the other as mp4, as wide as that at most, without sound."""
    codec = next(name for name in _ENCODERS if name in av.codecs_available)
    film = Stream(path, fps=fps, size=_fitting(width), from_s=from_s, to_s=to_s, allow_partial=True)
    pictures = iter(film)
    first = next(pictures)
    out = io.BytesIO()
    with av.open(out, "w", "mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=round(fps), options=_ENCODERS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = first[1].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        for time, picture in chain((first,), pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = max(0, round((time - from_s) / _TICK)), _TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def _fitting(width: int) -> Callable[[int, int], tuple[int, int]]:
    """Even sides, as the encoders want them."""

    def fit(film_width: int, film_height: int) -> tuple[int, int]:
        wide = min(width, film_width)
        return max(2, wide // 2 * 2), max(2, round(film_height * wide / film_width / 2) * 2)

    return fit


def drawn(frame: Rgb, boxes: Sequence[Box] = (), *, caption: str = "", width: int = 960) -> bytes:
    """The frame as JPEG, as wide as that at most, with the boxes and their labels on it."""
    image = Image.fromarray(frame)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))))
    draw = ImageDraw.Draw(image)
    line, letter = max(2, image.width // 320), max(13, image.width // 45)
    for box in boxes:
        left, right = sorted((box.left * image.width, box.right * image.width))
        top, bottom = sorted((box.top * image.height, box.bottom * image.height))
        draw.rectangle((left, top, right, bottom), outline=box.colour, width=line)
        _write(draw, box.label, (left, top - letter * 1.4 if top > letter * 1.4 else top), letter, box.colour)
    _write(draw, caption, (0, image.height - letter * 1.4), letter, _PLATE)
    return jpeg(image)


def _write(draw: ImageDraw.ImageDraw, text: str, at: tuple[float, float], size: int, colour: Colour) -> None:
    font, text = _font(text, size)
    if not text:
        return
    room = draw.textlength(text, font) + size * 0.6
    x = max(0.0, min(at[0], draw.im.size[0] - room))
    draw.rectangle((x, at[1], x + room, at[1] + size * 1.4), fill=colour)
    draw.text((x + size * 0.3, at[1] + size * 0.7), text, _INK, font, anchor="lm")


def _font(text: str, size: int) -> tuple[Font, str]:
    """A font for the text, and as much of it as there are letters for."""
    if not text.isascii():
        if chinese := _chinese(size):
            return chinese, text
        text = "".join(letter for letter in text if letter.isascii())
    return ImageFont.load_default(size=size), text


@lru_cache
def _chinese(size: int) -> Font | None:
    for name in _CHINESE:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
